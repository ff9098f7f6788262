"""A definition for the VirtualBox provider's tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vmctl.driver import Definition, Forward, Nic, Tag
from vmctl.spec import BoxRef, MachineSpec, Network, SourceLocation

TAG = Tag(project="0a1b2c3d" * 4, machine="web", version="0.1.0", root="/home/u/shop")


def definition(*, virtualbox: Any = None, nics: tuple[Nic, ...] = (), **spec: Any) -> Definition:
    networks = tuple(Network(name=nic.network, ip=nic.ip) for nic in nics)
    machine = MachineSpec(
        name="web",
        box=BoxRef(address="debian-12"),
        networks=networks,
        options={"virtualbox": virtualbox or {}},
        places={"virtualbox.vram": SourceLocation(file="Vmfile", line=4, column=5)},
        **spec,
    )
    return Definition(
        name="shop-web-0a1b2c3d",
        tag=TAG,
        spec=machine,
        mac="52:54:00:0a:1b:2c",
        console=Path("/home/u/shop/.vmctl/machines/web/console.log"),
        seed=Path("/home/u/shop/.vmctl/machines/web/seed.iso"),
        forwards=(
            Forward(name="ssh", guest=22, host=2222, host_ip="127.0.0.1", protocol="tcp"),
            Forward(name="a,b", guest=53, host=5353, host_ip="127.0.0.1", protocol="udp"),
        ),
        nics=nics,
        network_prefix="vmctl-0a1b2c3d",
    )


def nic(ip: str = "192.168.56.10", network: str = "backend", prefix: int = 24) -> Nic:
    return Nic(network=network, mac="52:54:00:0a:1b:2d", ip=ip, prefix=prefix)
