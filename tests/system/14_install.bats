#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# What "make install" and "make deb" put where, and what of it can be looked at
# without systemd: the units run in tests/vm.

bats_require_minimum_version 1.5.0
load helpers

# make_ TARGET [VARIABLE=VALUE...]: make, of what was built already
make_() {
    make_plots -o plots "$@"
}

# make_plots: the same, but what draws the page's plots is got if it is missing
make_plots() {
    env -u MAKEFLAGS -u MAKELEVEL make -s -C "${TREE:-$ROOT}" \
        -o build-release BUILD="${PROGRAMS%/release}" "$@"
}

# tree DIRECTORY: all that is in it, with all that a change would change
tree() {
    find "$1" ! -type d -printf '%P %m %i %s %T@\n' | sort
    find "$1" -type d -printf '%P/ %m\n' | sort
}

# install_here: install as if for this machine, below $DIR
install_here() {
    make_ install PREFIX="$DIR/usr" SYSCONFDIR="$DIR/etc"
    UNITS=$DIR/usr/lib/systemd/system
}

@test "a second install changes nothing, uninstall leaves what was there" {
    local stage=$DIR/stage

    # What is on any machine.
    mkdir -p "$stage"/usr/local/{etc,sbin,lib,share/{man/man{5,8},doc}} \
        "$stage/usr/local/lib/systemd/system" \
        "$stage"/usr/local/lib/{sysusers.d,tmpfiles.d} \
        "$stage/usr/local/share/bash-completion/completions"
    echo mine > "$stage/usr/local/etc/s3blkdev.conf"
    tree "$stage" > "$DIR/before"
    make_ install DESTDIR="$stage"
    tree "$stage" > "$DIR/installed"
    run ! cmp -s "$DIR/before" "$DIR/installed"
    make_ install DESTDIR="$stage"
    tree "$stage" | diff "$DIR/installed" -
    make_ uninstall DESTDIR="$stage"
    tree "$stage" | diff "$DIR/before" -
}

@test "units that are enabled are not uninstalled" {
    local wants=$DIR/stage/etc/systemd/system/timers.target.wants

    make_ install DESTDIR="$DIR/stage"
    mkdir -p "$wants"
    ln -s /usr/local/lib/systemd/system/s3blkdev-sync.timer "$wants"
    # That of another installation does not count.
    ln -s /lib/systemd/system/s3blkdev-evict.timer "$wants"
    tree "$DIR/stage" > "$DIR/before"
    run ! make_ uninstall DESTDIR="$DIR/stage"
    [[ $output == *"first run: systemctl disable --now s3blkdev-sync.timer"* ]]
    [[ $output != *evict* ]]
    tree "$DIR/stage" | diff "$DIR/before" -
    rm "$wants/s3blkdev-sync.timer"
    make_ uninstall DESTDIR="$DIR/stage"
    [ ! -e "$DIR/stage/usr/local/sbin/s3blkdevd" ]
}

@test "a file that is not as it should be is mended by install" {
    make_ install DESTDIR="$DIR/stage"
    cd "$DIR/stage/usr/local"
    echo >> sbin/s3blkdevd
    chmod 600 lib/systemd/system/s3blkdevd.service
    rm share/man/man8/s3blkdevd.8
    make_ install DESTDIR="$DIR/stage"
    cmp sbin/s3blkdevd "$DAEMON"
    [ "$(stat -c %a lib/systemd/system/s3blkdevd.service)" = 644 ]
    [ -e share/man/man8/s3blkdevd.8 ]
}

@test "PREFIX, SYSCONFDIR, UNITDIR and DESTDIR are where it goes" {
    local to=$DIR/stage

    make_ install DESTDIR="$to" PREFIX=/opt/gw SYSCONFDIR=/etc/gw \
        UNITDIR=/lib/systemd/system
    [ -x "$to/opt/gw/sbin/s3blkdevd" ]
    [ -x "$to/opt/gw/sbin/s3blkdev-sync" ]
    [ -e "$to/etc/gw/s3blkdev.conf.dist" ]
    [ ! -e "$to/etc/gw/s3blkdev.conf" ]
    grep -qF 'ExecStart=/opt/gw/sbin/s3blkdevd -c /etc/gw/s3blkdev.conf' \
        "$to/lib/systemd/system/s3blkdevd.service"
    grep -qF '/etc/gw/s3blkdev.conf' "$to/opt/gw/share/man/man8/s3blkdevd.8"
    # All that has a path in it has this one.
    run ! grep -rlE '@[A-Z]+@|/usr/local/(etc|share/s3blkdev)' \
        "$to/lib" "$to/etc" "$to"/opt/gw/{lib,share/{man,s3blkdev,bash-completion}}
    find "$to" -type f -perm /022 | diff /dev/null -
    make_ uninstall DESTDIR="$to" PREFIX=/opt/gw SYSCONFDIR=/etc/gw \
        UNITDIR=/lib/systemd/system
    find "$to" ! -type d | diff /dev/null -
}

@test "a path with a blank is refused, but for DESTDIR" {
    for path in "/opt/a b" opt "/opt/'" "/opt/a|b"; do
        run ! make_ install DESTDIR="$DIR/stage" PREFIX="$path"
        [[ $output == *"choose an absolute path"* ]]
    done
    run ! make_ uninstall DESTDIR="$DIR/stage" SYSCONFDIR=
    [[ $output == *"choose an absolute path"* ]]
    [ ! -e "$DIR/stage" ]
    make_ install DESTDIR="$DIR/it's a stage"
    [ -x "$DIR/it's a stage/usr/local/sbin/s3blkdevd" ]
    make_ uninstall DESTDIR="$DIR/it's a stage"
    find "$DIR/it's a stage" ! -type d | diff /dev/null -
}

# npm_is LINE...: a stand-in for npm, which notes its arguments
npm_is() {
    mkdir -p "$DIR/bin"
    printf '%s\n' '#!/bin/sh' "echo \"\$@\" >> '$DIR/said'" "$@" > "$DIR/bin/npm"
    chmod 755 "$DIR/bin/npm"
}

@test "the page's plots are got by npm, once, and without them it is said so" {
    local TREE=$DIR/tree page=$DIR/stage/usr/local/share/s3blkdev/gui
    local plots=$TREE/gui/node_modules/uplot

    mkdir "$TREE"
    tar -c -C "$ROOT" --exclude-vcs --exclude=./build --exclude=node_modules . |
        tar -x -C "$TREE"
    PATH=$DIR/bin:$PATH
    npm_is "exit 1"
    run make_plots install DESTDIR="$DIR/stage"
    [ "$status" = 0 ]
    [[ $output == *'no plots: "npm ci" has failed'* ]]
    [[ ${lines[-1]} == "WARNING: this is without the plots"* ]]
    [ -x "$page/server.mjs" ]
    # Something that is not the version which the lock names is not it.
    npm_is "mkdir -p '$plots/dist' && cd '$plots'" \
        "echo text | tee LICENSE dist/uPlot.esm.js > dist/uPlot.min.css" \
        "echo '\"version\": \"1.0.0\"' > package.json"
    run make_plots install DESTDIR="$DIR/stage"
    [[ $output == *"WARNING"* ]]
    sed -n '/node_modules.uplot/,/}/s/^ *"version/"version/p' \
        "$TREE/gui/package-lock.json" > "$DIR/version"
    npm_is "mkdir -p '$plots/dist' && cd '$plots'" \
        "echo text | tee LICENSE dist/uPlot.esm.js > dist/uPlot.min.css" \
        "cp '$DIR/version' package.json"
    : > "$DIR/said"
    for _ in 1 2; do
        run make_plots install DESTDIR="$DIR/stage"
        [ "$status" = 0 ]
        [[ $output != *WARNING* ]]
    done
    [ "$(wc -l < "$DIR/said")" = 1 ]
    grep -q '^ci ' "$DIR/said"
    [ -s "$page/node_modules/uplot/dist/uPlot.esm.js" ]
    [ -s "$page/node_modules/uplot/LICENSE" ]
    # What was installed goes, also when it is no longer in the tree.
    rm -r "$TREE/gui/node_modules"
    make_ uninstall DESTDIR="$DIR/stage"
    find "$DIR/stage" ! -type d | diff /dev/null -
}

@test "the units have no mistakes" {
    needs systemd-analyze
    install_here
    run systemd-analyze verify --man=no --recursive-errors=no \
        "$UNITS"/s3blkdev*
    echo "$output"
    [ "$status" = 0 ]
    [ -z "$output" ]
}

@test "systemd calls the exposure of each service 2.5 at most" {
    local unit

    needs systemd-analyze
    install_here
    for unit in "$UNITS"/*.service; do
        run systemd-analyze security --no-pager --offline=true \
            --threshold=25 "$unit"
        echo "$output" | tail -n 1
        [ "$status" = 0 ]
    done
}

@test "users and directories are made, and the page's user gets its socket only" {
    local to=$DIR/root gid page

    needs systemd-sysusers systemd-tmpfiles
    [ "$(id -u)" = 0 ] || skip "only root can give files away"
    install_here
    mkdir -p "$to/etc" "$to/run" "$to/var/lib"
    systemd-sysusers --root="$to" "$DIR/usr/lib/sysusers.d/s3blkdev.conf"
    # Names are looked up on the host, where they may not be.
    gid=$(awk -F: '$1 == "s3blkdev" { print $3 }' "$to/etc/group")
    page=$(awk -F: '$1 == "s3blkdev-gui" { print $3 }' "$to/etc/group")
    [ -n "$gid" ]
    [ -n "$page" ]
    grep -q "^s3blkdev:x:[0-9]*:$gid:[^:]*:/var/lib/s3blkdev:.*nologin$" \
        "$to/etc/passwd"
    grep -q "^s3blkdev-gui:x:[0-9]*:$page:.*nologin$" "$to/etc/passwd"
    systemd-tmpfiles --root="$to" --create \
        "$DIR/usr/lib/tmpfiles.d/s3blkdev.conf"
    [ "$(stat -c '%g %a' "$to/run/s3blkdev")" = "$gid 755" ]
    [ "$(stat -c '%g %a' "$to/run/s3blkdev/status")" = "$page 2750" ]
    [ "$(stat -c '%g %a' "$to/var/lib/s3blkdev")" = "$gid 750" ]
}

# cron_line PATTERN: run the command of that line, with what is in $PATH
cron_line() {
    sh -c "$(sed -n "/^[*0-9].*$1/s/.* s3blkdev s3blkdev-sync/s3blkdev-sync/p" \
        "$ROOT/scripts/s3blkdev.cron")"
}

@test "cron does not complain of what is well, and does of the rest" {
    mkdir "$DIR/bin"
    # shellcheck disable=SC2016 # for the script
    printf '%s\n' '#!/bin/sh' 'echo "$@" > "$DIR/said"' 'exit $CODE' \
        > "$DIR/bin/s3blkdev-sync"
    chmod 755 "$DIR/bin/s3blkdev-sync"
    PATH=$DIR/bin:$PATH
    export DIR CODE
    for CODE in 0 4; do
        cron_line evict
        [ "$(cat "$DIR/said")" = "-p /run/s3blkdev/evict.pid 90 80" ]
    done
    for CODE in 0 4 5; do
        cron_line sync.pid
        [ "$(cat "$DIR/said")" = "-p /run/s3blkdev/sync.pid 18000" ]
    done
    for CODE in 1 6; do
        run ! cron_line evict
        run ! cron_line sync.pid
    done
}

# complete COMMAND FUNCTION WORD...: what bash would offer for the last word
complete_words() {
    # shellcheck disable=SC2016 # for the other shell
    bash -c '
        . "$1"
        shift
        function=$1
        shift
        COMP_WORDS=("$@")
        COMP_CWORD=$(($# - 1))
        "$function"
        echo "${COMPREPLY[*]}"
    ' bash "$ROOT/scripts/completion/$1" "${@:2}"
}

offers() {
    complete_words s3blkdev-sync _s3blkdev_sync "$PROGRAMS/s3blkdev-sync" "$@"
}

@test "bash knows the commands, the devices, and their snapshots" {
    write_config
    add_device disk 64M
    add_device other 64M
    [ "$(offers -c "$CONFIG" sn)" = "snapshot snapshots" ]
    [ "$(offers -c "$CONFIG" rollback "")" = "disk other" ]
    [ "$(offers -c "$CONFIG" -d d)" = disk ]
    [ "$(offers status -)" = --json ]
    # Without a server nothing is opened to find out.
    [ "$(offers -c "$CONFIG" rollback disk "")" = "" ]
    [ -z "$(find "$DIR/disk" -mindepth 1)" ]
    start_daemon
    "$PROGRAMS/s3blkdev-sync" -c "$CONFIG" snapshot disk before-upgrade --now
    "$PROGRAMS/s3blkdev-sync" -c "$CONFIG" snapshot disk last --now
    [ "$(offers -c "$CONFIG" rollback disk b)" = before-upgrade ]
    [ "$(offers -c "$CONFIG" drop disk @)" = "before-upgrade last" ]
    [ "$(offers -c "$CONFIG" drop disk @ l)" = last ]
    [ "$(offers -c "$CONFIG" drop disk @ last -)" = --yes ]
    stop_daemon
    [ "$(complete_words s3blkdevd _s3blkdevd s3blkdevd --s)" = --single ]
    [ "$(complete_words s3blkdev-attach _s3blkdev_attach s3blkdev-attach \
        re)" = "resize reconnect" ]
    [ "$(complete_words s3blkdev-attach _s3blkdev_attach s3blkdev-attach \
        detach --f)" = --force ]
}

@test "the package is as Debian wants it, and is of this version" {
    local deb version

    needs dpkg-buildpackage dh lintian
    (
        cd "$ROOT"
        env -u MAKEFLAGS -u MAKELEVEL make -s BUILD="$DIR/build" deb
    ) > "$DIR/log" 2>&1 || { tail -n 50 "$DIR/log"; false; }
    cd "$DIR/build/deb"
    deb=$(echo s3blkdev_*.deb)
    lintian --allow-root --fail-on error "$deb"
    version=$("$DAEMON" -V)
    version=${version#* }
    [ "$(dpkg-deb -f "$deb" Version)" = "${version/-/\~}" ]
    dpkg-deb -x "$deb" unpacked
    run unpacked/usr/sbin/s3blkdevd -h
    [[ $output == *" /etc/s3blkdev.conf"* ]]
    # Nothing of it runs on when it is removed.
    dpkg-deb -e "$deb" control
    for unit in s3blkdevd.service s3blkdevd.socket s3blkdev-evict.timer \
        s3blkdev-sync.timer s3blkdev-evict.service s3blkdev-sync.service \
        s3blkdev-gui.service; do
        grep -A 3 'deb-systemd-invoke stop' control/prerm | grep -qF "$unit"
    done
    # An upgrade restarts what runs, but neither the socket nor an upload.
    # shellcheck disable=SC2016 # the script's variable
    grep -E 'deb-systemd-invoke (\$_dh_action|try-restart|restart) ' \
        control/postinst > restarted
    grep -qF "'s3blkdevd.service'" restarted
    grep -qF "'s3blkdev-gui.service'" restarted
    run ! grep -E 'socket|(evict|sync)\.service' restarted
    # All that install installs is in it, but what debhelper renames.
    make_ install DESTDIR="$DIR/stage" PREFIX=/usr SYSCONFDIR=/etc \
        UNITDIR=/lib/systemd/system
    diff <(cd "$DIR/stage" && find . ! -type d ! -path '*/doc/*/LICENSE' | sort) \
        <(cd unpacked && find . ! -type d ! -name 'changelog*' \
            ! -name copyright | sed 's/\.gz$//' | sort)
}

@test "the package restarts the daemon, not its socket, and purge deletes no data" {
    local script=$DIR/postrm

    # An upgrade hands clients over; below the daemon its socket stays.
    grep -qE '^	dh_installsystemd s3blkdevd\.service$' "$ROOT/debian/rules"
    grep -qE '^	dh_installsystemd --no-stop-on-upgrade s3blkdevd\.socket$' \
        "$ROOT/debian/rules"
    run ! grep -q '^Also=' "$ROOT/systemd/s3blkdevd.service"
    sed '/^#DEBHELPER#$/d' "$ROOT/debian/s3blkdev.postrm" > "$script"
    run ! grep -E '\b(rm|rmdir|userdel|deluser)\b' "$script"
    run sh "$script" purge
    [ "$status" = 0 ]
    [[ $output == *"all objects in the bucket"* ]]
    run sh "$script" remove
    [ "$status" = 0 ]
    [ -z "$output" ]
}
