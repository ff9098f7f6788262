"""Run by `vmctl test` with pytest; the fixture `machines` comes from vmctl."""


def test_the_message_of_the_day_names_a_port(machines):
    for machine in machines.values():
        assert machine.run("cat /etc/motd").stdout.startswith("Served on port")
