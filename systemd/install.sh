#!/bin/sh
# Installs dance-ondevice as a service of this machine, or removes it: `make install-service`, `make uninstall-service`.
#
#   install.sh install|uninstall        run in the root of the source tree
#
# Environment: PREFIX (where the virtual environment goes), DESTDIR (a staging folder put before every path),
# PYTHON, PIP_ARGS (options for every pip call), TORCH_INDEX_URL, SYSCONFDIR, UNITDIR, BINDIR (where the command is
# linked, so that every shell finds it).
#
# Both may be run again at any time. State and configuration are never touched: what the service learnt, and what
# the site has set, outlive every upgrade and removal.
set -eu
# Whatever root's own habit is: the service's user must be able to read what is installed.
umask 022

PREFIX=${PREFIX:-/opt/dance-ondevice}
DESTDIR=${DESTDIR:-}
PYTHON=${PYTHON:-python3}
PIP_ARGS=${PIP_ARGS:-}
TORCH_INDEX_URL=${TORCH_INDEX_URL:-}
SYSCONFDIR=${SYSCONFDIR:-/etc}
UNITDIR=${UNITDIR:-$SYSCONFDIR/systemd/system}
BINDIR=${BINDIR:-/usr/local/bin}

case $PREFIX in /?*) ;; *) echo "install-service: PREFIX is '$PREFIX'; give an absolute path below /" >&2; exit 2 ;; esac

root=$DESTDIR$PREFIX
etc=$DESTDIR$SYSCONFDIR
config=$etc/dance-ondevice
link=$DESTDIR$BINDIR/dance-ondevice
UNITS="dance-ondevice.service dance-ondevice-console.service dance-ondevice-fleet.service dance-ondevice-camera@.service dance_ondevice.slice"

say() { echo "install-service: $*"; }

# Whether the machine's own service manager is to be told: not when staging, not in a container without one.
live() { [ -z "$DESTDIR" ] && [ -d /run/systemd/system ] && command -v systemctl >/dev/null; }

# Puts a file in place with the prefix in it, by rename, so that nobody ever reads half of it.
place() { # SOURCE TARGET MODE
    mkdir -p "$(dirname "$2")"
    sed "s|/opt/dance-ondevice|$PREFIX|g" "$1" >"$2.new"
    chmod "$3" "$2.new"
    mv -f "$2.new" "$2"
}

# The units hide home and temporary folders from the service, which would be started in vain for ever; and they name the
# programs, where a blank, a % or the like means something else.
check_prefix() {
    case $PREFIX/ in
        /home/*|/root/*|/run/user/*|/tmp/*|/var/tmp/*)
            say "PREFIX is $PREFIX, a folder that a service does not see; give another, such as /opt/dance-ondevice" >&2
            exit 2 ;;
        *[!A-Za-z0-9/._+-]*)
            say "PREFIX is '$PREFIX'; a unit can name letters, digits and / . _ + - alone" >&2
            exit 2 ;;
    esac
}

check_python() {
    command -v "$PYTHON" >/dev/null || { say "there is no '$PYTHON' here; name one with PYTHON=" >&2; exit 1; }
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
        say "$PYTHON is $("$PYTHON" -V 2>&1), Python 3.10 or newer is needed" >&2; exit 1; }
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || {
        say "$PYTHON cannot make virtual environments; on Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }
    case $("$PYTHON" -c 'import os, sys; print(os.path.realpath(sys.executable))') in
        /home/*|/root/*|/run/user/*)
            say "$PYTHON lies in a home folder, which a service cannot read; name the system's with PYTHON=" >&2
            [ -n "$DESTDIR" ] || exit 1 ;;
    esac
}

# Prints the version of the torch in our environment where it satisfies a specifier such as ">=2.4"; fails where not.
torch_that_does() { # SPECIFIER
    "$root/bin/python" - "$1" <<'END'
import importlib.metadata
import sys

from pip._vendor.packaging.specifiers import SpecifierSet

try:
    version = importlib.metadata.version("torch")
except importlib.metadata.PackageNotFoundError:
    sys.exit(1)
if not SpecifierSet(sys.argv[1]).contains(version, prereleases=True):
    sys.exit(1)
print(version)
END
}

# Links the command where every shell looks; what is there and not ours stays.
link_command() {
    if [ -e "$link" ] && [ ! -L "$link" ]; then
        say "$link is there and is no link: not touched; the command is $PREFIX/bin/dance-ondevice" >&2
        return
    fi
    mkdir -p "$(dirname "$link")"
    ln -sfn "$PREFIX/bin/dance-ondevice" "$link"
}

install_package() {
    check_prefix
    check_python
    mkdir -p "$root"
    # One that works is kept, with what the site has put into it; one whose Python an upgrade of the system took
    # away is made anew.
    "$root/bin/python" -m pip --version >/dev/null 2>&1 || "$PYTHON" -m venv "$root"
    pip="$root/bin/python -m pip install --quiet --disable-pip-version-check $PIP_ARGS"
    $pip -c constraints.txt setuptools wheel
    torch=$(sed -n 's/^\(torch==[^ ;]*\).*/\1/p' constraints.txt)
    wanted=$(sed -n 's/^ *torch\([<>=!~][^ ;]*\).*/\1/p' setup.cfg)
    # Built from a copy: an earlier build's leftovers in the source tree must not end up in the package.
    copy=$(mktemp -d)
    trap 'rm -rf "$copy"' EXIT
    cp -a dance_ondevice daemon policies setup.cfg pyproject.toml README.md LICENSE constraints.txt "$copy"
    # One that is there and will do is kept: on a Jetson it is NVIDIA's, whose version is no other's.
    if kept=$(torch_that_does "$wanted"); then
        say "keeps torch $kept, which satisfies torch$wanted"
        sed -i '/^torch==/d' "$copy/constraints.txt"
    else
        $pip ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} --no-deps "$torch"
    fi
    $pip -c "$copy/constraints.txt" --no-build-isolation "$copy[console,onnx]"
    if [ -n "$DESTDIR" ]; then
        # Staged programs must name the interpreter of where they will be.
        find "$root/bin" -type f -exec sed -i "1s|^#!$root/|#!$PREFIX/|" {} +
    fi
}

install_files() {
    for unit in $UNITS; do place "systemd/$unit" "$DESTDIR$UNITDIR/$unit" 644; done
    place systemd/dance-ondevice.sysusers.conf "$etc/sysusers.d/dance-ondevice.conf" 644
    place systemd/dance-ondevice.tmpfiles.conf "$etc/tmpfiles.d/dance-ondevice.conf" 644
    place systemd/99-dance-ondevice-rapl.rules "$etc/udev/rules.d/99-dance-ondevice-rapl.rules" 644
    for page in docs/*.md docs/guides/*.md docs/how/*.md; do place "$page" "$root/share/doc/${page#docs/}" 644; done
    # What the pages name beside themselves.
    for file in docs/examples/*.*; do place "$file" "$root/share/doc/${file#docs/}" 644; done
    for file in deploy/prometheus/*.yml deploy/grafana/*.json; do place "$file" "$root/share/${file#deploy/}" 644; done
    place systemd/10-curve.conf "$root/share/systemd/10-curve.conf" 644
    mkdir -p "$config/cameras"
    chmod 755 "$config"
    chmod 700 "$config/cameras"
    place systemd/camera.env.example "$config/cameras/camera.env.example" 600
    if [ ! -e "$config/config.toml" ]; then
        # Run through the interpreter: a staged program's first line names a place that is not there yet.
        "$root/bin/python" -I -m dance_ondevice config init >"$config/config.toml.new"
        chmod 644 "$config/config.toml.new"
        mv "$config/config.toml.new" "$config/config.toml"
    fi
}

tell_the_machine() {
    systemd-sysusers "$etc/sysusers.d/dance-ondevice.conf"
    systemd-tmpfiles --create "$etc/tmpfiles.d/dance-ondevice.conf"
    if command -v udevadm >/dev/null; then
        udevadm control --reload && udevadm trigger --subsystem-match=powercap --action=add || \
            say "udev did not take the rule for the energy counters; it holds from the next boot" >&2
    fi
    systemctl daemon-reload
    # Running ones change over to what was just installed; others stay as they are.
    systemctl try-restart dance-ondevice.service dance-ondevice-console.service dance-ondevice-fleet.service 'dance-ondevice-camera@*.service'
}

install_all() {
    install_package
    install_files
    link_command
    if live; then tell_the_machine; fi
    say "installed in $root; state and configuration were left as they are"
    if [ -z "$DESTDIR" ]; then
        say "next: edit $config/config.toml, then: systemctl enable --now dance-ondevice"
        say "one of a fleet of boards (docs/fleet.md): systemctl enable --now dance-ondevice-fleet"
        say "pages in the browser (docs/console.md): systemctl enable --now dance-ondevice-console"
    fi
}

uninstall_all() {
    if live; then
        systemctl disable --now dance-ondevice.service dance-ondevice-console.service dance-ondevice-fleet.service 2>/dev/null || true
        systemctl stop 'dance-ondevice-camera@*.service' dance_ondevice.slice 2>/dev/null || true
    fi
    rm -f "$DESTDIR$UNITDIR"/multi-user.target.wants/dance-ondevice.service \
        "$DESTDIR$UNITDIR"/multi-user.target.wants/dance-ondevice-console.service \
        "$DESTDIR$UNITDIR"/multi-user.target.wants/dance-ondevice-fleet.service \
        "$DESTDIR$UNITDIR"/multi-user.target.wants/dance-ondevice-camera@*.service
    for unit in $UNITS; do rm -f "$DESTDIR$UNITDIR/$unit"; done
    rm -f "$etc/sysusers.d/dance-ondevice.conf" "$etc/tmpfiles.d/dance-ondevice.conf" \
        "$etc/udev/rules.d/99-dance-ondevice-rapl.rules"
    if [ "$(readlink "$link" 2>/dev/null)" = "$PREFIX/bin/dance-ondevice" ]; then rm -f "$link"; fi
    # Only what is one of our environments is removed whole.
    if [ -f "$root/pyvenv.cfg" ] && [ -e "$root/bin/dance-ondevice" ]; then rm -rf "$root"; fi
    if live; then systemctl daemon-reload; fi
    say "removed; kept: $config and, with samples, models and ledger, $DESTDIR/var/lib/dance-ondevice"
}

case ${1:-} in
    install) install_all ;;
    uninstall) uninstall_all ;;
    *) echo "usage: $0 install|uninstall" >&2; exit 2 ;;
esac
