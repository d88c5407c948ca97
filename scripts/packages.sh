# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# shellcheck disable=SC2034 # the lists are for who sources this
#
# packages - what is needed of Debian 12, or Ubuntu 22.04 and later, and how
# it gets here; sourced by scripts/quickstart and scripts/check.

# To build the programs.
packages_build=(
    gcc make libc6-dev
    libexpat1-dev libgnutls28-dev libisal-dev libjansson-dev libsnappy-dev
    libsystemd-dev nettle-dev
)

# To try them: a real NBD client, disk images.
packages_try=(
    libnbd-bin qemu-utils
)

# To check a change: lint, sanitizers, NBD clients, file systems on a device,
# the two servers that it is compared with, S3 servers, Debian packages.
packages_check=(
    bats binutils btrfs-progs clang clang-format clang-tidy cppcheck
    diffutils e2fsprogs findutils fio fuse3 gnutls-bin libnbd-bin mount
    nbdkit procps python3 python3-libnbd qemu-utils shellcheck socat strace
    util-linux xfsprogs
    ceph-mon ceph-osd curl nodejs openssl prometheus radosgw
    build-essential debhelper lintian systemd
)

# For the tests in a virtual machine, which is an x86-64.
packages_vm=(
    busybox-static cpio kmod lz4 mmdebstrap qemu-system-x86 xz-utils
)

# For make check-swift: another S3 server, besides those above.
packages_swift=(
    memcached swift-account swift-container swift-object swift-proxy
)

# For make bench: what is measured beside the S3 client, and with what.
packages_bench=(
    nginx-light s3backer wrk
)

# As packages_check, where the distribution has them apart: nbdfuse, if not
# in libnbd-bin, what clang's sanitizers need at run time, npm, if not in
# nodejs, for the page's plots, and a browser for its tests.
packages_check_optional()
{
    echo nbdfuse llvm chromium
    command -v npm > /dev/null || echo npm
    apt-cache depends clang |
        sed -n 's/^ *Depends: clang-\([0-9]*\)$/libclang-rt-\1-dev/p'
}

# Run a command as root.
as_root()
{
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo > /dev/null; then
        sudo "$@"
    else
        echo "This needs root, and there is no sudo: $*" >&2
        return 1
    fi
}

# Print those of the packages that are not installed.
packages_missing()
{
    local package

    for package; do
        dpkg-query -W -f '${Status}\n' "$package" 2> /dev/null |
            grep -q ' installed$' || echo "$package"
    done
}

# Print those of the packages that apt could install.
packages_known()
{
    local package

    for package; do
        if apt-cache policy "$package" |
            grep -q '^ *Candidate: [^(]'; then
            echo "$package"
        fi
    done
}

# Install those of the packages that are missing, and say which those are.
packages_install()
{
    local missing

    if ! command -v apt-get > /dev/null; then
        echo "There is no apt-get here; what is needed, by Debian's names: $*"
        return 0
    fi
    mapfile -t missing < <(packages_missing "$@")
    [ ${#missing[@]} -gt 0 ] || return 0
    echo "Installing by apt: ${missing[*]}"
    as_root apt-get -q -q update < /dev/null &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -q -y \
            -o Dpkg::Use-Pty=0 install --no-install-recommends \
            "${missing[@]}" < /dev/null
}

# As packages_install; what apt does not know is left out.
packages_install_optional()
{
    local known

    command -v apt-get > /dev/null || return 0
    mapfile -t known < <(packages_known "$@")
    [ ${#known[@]} = 0 ] || packages_install "${known[@]}"
}
