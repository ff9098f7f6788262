"""Answers of VBoxManage, shortened: of 7.2 as printed by the real one, of 6.1 and 7.0 in their older spelling."""

# ruff: noqa: E501  the lines are VirtualBox's
from __future__ import annotations

UUID = "dedab30a-7d53-54a4-8dfd-0b40b448239e"

LONG_LISTING = f"""\
Name:                        Grün "q" it's
Encryption:                  disabled
Groups:                      /
UUID:                        {UUID}
Config file:                 /tmp/vms/Grün _q_ it_s/Grün _q_ it_s.vbox
Hardware UUID:               {UUID}
Memory size:                 1024MB
State:                       powered off (since 2026-11-24T03:38:23.689000000)
NIC 1:                       MAC: 08002726544C, Attachment: NAT, Cable connected: on
Description:
State:                       running (since the user wrote this line)
* Guest:
Configured memory balloon:   0MB

Name:                        b
Groups:                      /
UUID:                        21111111-2222-5333-8444-555555555555
State:                       running (since 2026-11-24T03:40:00.000000000)

Name:            <inaccessible!>
UUID:            31111111-2222-5333-8444-555555555555
Config file:     /tmp/vms/a/a.vbox
Access error details:

"""

SHOWN_7_2 = r"""name="Grün \"q\" it's"
encryption="disabled"
groups="/"
platformArchitecture="x86"
ostype="Debian (64-bit)"
UUID="dedab30a-7d53-54a4-8dfd-0b40b448239e"
CfgFile="/tmp/vms/Grün _q_ it_s/Grün _q_ it_s.vbox"
memory=1024
firmware="EFI"
VMState="poweroff"
VMStateChangeTime="2026-11-24T03:38:23.689000000"
storagecontrollername0="disks"
"disks-0-0"="/tmp/vms/a/root.vdi"
"disks-ImageUUID-0-0"="b25748b0-ecb7-48d9-b2a3-d83a832770bd"
"disks-1-0"="none"
natnet1="nat"
macaddress1="080027112233"
nic1="nat"
nictype1="virtio"
Forwarding(0)="dns,udp,127.0.0.1,5353,,53"
Forwarding(1)="ssh,tcp,127.0.0.1,2222,,22"
Forwarding(2)="any,tcp,,8080,,80"
nic2="none"
uart1="0x03f8,4"
uartmode1="file,/tmp/con "so'le.log"
SharedFolderNameMachineMapping1="project"
SharedFolderPathMachineMapping1="/home/u/pro ject"
description="vmctl: {\"a\": 1}
VMState=\"running\"
second"
GuestMemoryBalloon=0
"""

SHOWN_6_1 = """name="old "quoted" name"
groups="/"
ostype="Debian (64-bit)"
UUID="dedab30a-7d53-54a4-8dfd-0b40b448239e"
CfgFile="/home/u/VirtualBox VMs/old/old.vbox"
memory=2048
VMState="saved"
VMStateChangeTime="2021-05-01T10:00:00.000000000"
"SATA-0-0"="/home/u/VirtualBox VMs/old/disk.vdi"
Forwarding(0)="ssh,tcp,127.0.0.1,2200,,22"
description="two
lines"
GuestMemoryBalloon=0
"""

NOT_FOUND = f"""\
VBoxManage: error: Could not find a registered machine with UUID {{{UUID}}}
VBoxManage: error: Details: code VBOX_E_OBJECT_NOT_FOUND (0x80bb0001), component VirtualBoxWrap, interface IVirtualBox, callee nsISupports
VBoxManage: error: Context: "FindMachine(Bstr(VMNameOrUuid).raw(), machine.asOutParam())" at line 3248 of file VBoxManageInfo.cpp
"""

LOCKED = """\
VBoxManage: error: The machine 'web' is already locked by a session (or being locked or unlocked)
VBoxManage: error: Details: code VBOX_E_INVALID_OBJECT_STATE (0x80bb0007), component MachineWrap, interface IMachine
"""

NOT_READY = """\
VBoxManage: error: The object is not ready
VBoxManage: error: Details: code E_ACCESSDENIED (0x80070005), component MachineWrap, interface IMachine, callee nsISupports
"""

NO_SERVER = """\
VBoxManage: error: Failed to create the VirtualBox object!
VBoxManage: error: Code NS_ERROR_FAILURE (0x80004005) - Operation failed (extended info not available)
VBoxManage: error: Most likely, the VirtualBox COM server is not running or failed to start.
"""

VANISHED = """\
VBoxManage: error: Code NS_ERROR_FAILURE (0x80004005) - Operation failed (extended info not available)
VBoxManage: error: Context: "RefreshState(&enmState)" at line 1422 of file VBoxManageDisk.cpp
"""

PROGRESS_FAILURE = """\
0%...NS_ERROR_FAILURE
VBoxManage: error: Failed to create the host-only adapter
VBoxManage: error: VBoxNetAdpCtl: Error while adding new interface: failed to open /dev/vboxnetctl: No such file or directory
VBoxManage: error: Details: code NS_ERROR_FAILURE (0x80004005), component HostNetworkInterfaceWrap, interface IHostNetworkInterface
"""

VERSION_WITHOUT_DRIVER = """\
WARNING: The character device /dev/vboxdrv does not exist.
\t Please install the virtualbox-dkms package and the appropriate
\t headers, most likely linux-headers-amd64.

\t You will not be able to start VMs until this problem is fixed.
7.0.20_Debianr163906
"""

HOSTONLY = """\
Name:            vboxnet0
GUID:            786f6276-656e-4074-8000-0a0027000000
DHCP:            Disabled
IPAddress:       192.168.56.1
NetworkMask:     255.255.255.0
IPV6Address:
HardwareAddress: 0a:00:27:00:00:00
Status:          Down
VBoxNetworkName: HostInterfaceNetworking-vboxnet0

Name:            vboxnet1
IPAddress:       0.0.0.0
NetworkMask:     0.0.0.0

"""

BRIDGED = """\
Name:            eth0
IPAddress:       10.20.0.5
NetworkMask:     255.255.0.0
Status:          Up

Name:            virbr7
IPAddress:       192.168.57.1
NetworkMask:     255.255.255.0

"""

SETTINGS = """\
<?xml version="1.0"?>
<VirtualBox xmlns="http://www.virtualbox.org/" version="1.19-linux">
  <Machine uuid="{dedab30a-7d53-54a4-8dfd-0b40b448239e}" name="web" currentSnapshot="{a92c34d6-2706-465e-9d12-8fb4b6e2b231}">
    <MediaRegistry>
      <HardDisks>
        <HardDisk uuid="{b01976ae-f824-4452-b5b5-c48d5c6f8204}" location="/bases/base.vdi" format="VDI" type="Normal">
          <HardDisk uuid="{b25748b0-ecb7-48d9-b2a3-d83a832770bd}" location="root.vdi" format="vdi">
            <HardDisk uuid="{3086066b-daa9-455b-a51e-2c8ef6f15660}" location="Snapshots/{3086066b}.vdi" format="VDI"/>
          </HardDisk>
        </HardDisk>
      </HardDisks>
    </MediaRegistry>
    <Snapshot uuid="{38fe9d4d-84f9-4c07-aee7-6ee27541b061}" name="snap &quot;ü" timeStamp="2026-11-24T03:53:00Z" stateFile="Snapshots/1.sav">
      <Hardware>
        <StorageControllers>
          <StorageController name="disks" type="VirtioSCSI">
            <AttachedDevice type="HardDisk" port="0" device="0"><Image uuid="{b25748b0-ecb7-48d9-b2a3-d83a832770bd}"/></AttachedDevice>
            <AttachedDevice type="DVD" port="1" device="0"><Image uuid="{55796ee4-8af4-4df1-8fef-dd337ac22294}"/></AttachedDevice>
          </StorageController>
        </StorageControllers>
      </Hardware>
      <Snapshots>
        <Snapshot uuid="{23966b8c-8830-4bfc-9c18-201f69221b5c}" name="s2" timeStamp="2026-11-24T04:00:00Z"/>
        <Snapshot uuid="{a92c34d6-2706-465e-9d12-8fb4b6e2b231}" name="s3" timeStamp="2026-11-24T05:00:00Z"/>
      </Snapshots>
    </Snapshot>
  </Machine>
</VirtualBox>
"""
