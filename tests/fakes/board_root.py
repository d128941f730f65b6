"""A board's root file system in a folder, as a card in a reader shows it."""

import stat

CONFIG_TXT = """\
# For more options see the documentation
dtparam=audio=on
[cm4]
otg_mode=1
[all]
"""
CMDLINE = "console=serial0,115200 console=tty1 root=PARTUUID=4c-02 rootfstype=ext4 rootwait quiet\n"
GPSD = """\
# Devices gpsd should collect to at boot time.
DEVICES=""

# Other options you want to pass to gpsd
GPSD_OPTIONS=""

# Automatically hot add/remove USB GPS devices via gpsdctl
USBAUTO="true"
"""


def make_root(folder, files=None):
    """A fresh Raspberry Pi OS, or these files; every folder that a system has anyway."""
    if files is None:
        files = {
            "boot/firmware/config.txt": CONFIG_TXT.encode(),
            "boot/firmware/cmdline.txt": CMDLINE.encode(),
            "etc/default/gpsd": GPSD.encode(),
        }
    for name in ("boot/firmware", "var/lib", "etc"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, str):
            path.symlink_to(data)
        else:
            path.write_bytes(data)
    return folder


def tree(folder):
    """Every file, link and folder with all that matters of it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()))
        elif path.is_dir():
            found[name] = ("folder", stat.S_IMODE(about.st_mode))
        else:
            found[name] = ("file", path.read_bytes(), stat.S_IMODE(about.st_mode))
    return found
