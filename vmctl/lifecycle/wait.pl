# Run as root in the guest by `perl -e`, before its memory is kept: waits for a word on the seed's disk, which is there
# when the guest goes on from that memory, and has wake.sh go on at once, which waits as well. To log in takes an emulated
# guest longer than that, and is done meanwhile; so nothing that waits has to be started then.
# Arguments: where to write down its number once it waits, the disk, wake.sh, how far off the clock may be, and live
# folders as quiesce.sh has them.
use strict;
use IPC::Open2;
my ($place, $disk, $script, $slow, @deepest) = @ARGV;
my @folders;
unshift @folders, splice(@deepest, 0, 2) while @deepest;
my $start = 'read -r token now seen || exit 1; slow=$1; shift; set -- "$token" "$now" "$slow" "$@"';
open2(my $said, my $to, "sh", "-c", "$start\n$script", "sh", $slow, @folders);
open(my $from, "<:raw", $disk) or exit 1;
my $first;
for (1 .. 20000) {
    my $word = "";
    ioctl($from, 0x1261, 0);    # BLKFLSBUF (linux/fs.h): read it from the disk, not from the cache of then
    sysseek($from, 0, 0);
    sysread($from, $word, 512);
    if (!defined $first) {
        $first = $word;
        note("$$\n");
    }
    wake($1, $2, $3) if $word ne $first && $word =~ /^vmctl-wake ([0-9a-f]{32}) ([0-9]+) ([0-9a-f]{128})\n/;
    select(undef, undef, undef, 0.03);
}
note("");    # the number may be another's from now on

sub note {
    open(my $to, ">", $place) or exit 1;
    print $to @_;
}

# Random numbers are new before anybody can log in; the rest is wake.sh's.
sub wake {
    my ($token, $now, $seed) = @_;
    my $new = pack("H*", $seed);
    open(my $random, "+<", "/dev/urandom") or exit 1;
    ioctl($random, 0x40085203, pack("i i a*", 8 * length($new), length($new), $new)) or exit 1;
    ioctl($random, 0x5207, 0) or exit 1;
    syswrite($to, "$token $now " . time . "\n");
    my $all = join("", <$said>);
    note("");
    open(my $console, ">", "/dev/console") or exit 1;
    syswrite($console, "\r\nvmctl-awake $token\r\n") if $all eq "$token\n";
    exit 0;
}
