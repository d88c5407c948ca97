# SPDX-License-Identifier: BSD-2-Clause
#
# store_kind - where the objects of a system test are: loaded by helpers.
#
# STORE_KIND is "dir", or of four words joined by "-":
#
#     radosgw or swift   which server (swift has one endpoint, and no https)
#     http or https
#     path or virtual    how the bucket is told
#     1 or 2             how many endpoints
#
# A test may start radosgw, and set STORE_KIND, by itself.

STORE_KIND=${STORE_KIND:-dir}
STORE_TOOL=$BATS_TEST_DIRNAME/store.py
RADOSGW=$BATS_TEST_DIRNAME/../support/radosgw
SWIFT=$BATS_TEST_DIRNAME/../support/swift

# kind N: the N-th word of STORE_KIND
kind() {
    cut -d - -f "$1" <<< "$STORE_KIND"
}

# server: the script that starts and stops it
server() {
    case $(kind 1) in
    radosgw) echo "$RADOSGW" ;;
    swift) echo "$SWIFT" ;;
    esac
}

# start_store: the server of this file's tests, in $SERVER_DIR
start_store() {
    [ "$STORE_KIND" != dir ] || return 0
    export SERVER_DIR=$BATS_FILE_TMPDIR/server
    if [ "$(kind 1)" = swift ]; then
        command -v swift-proxy-server > /dev/null ||
            skip "swift is not installed"
    else
        needs ceph-mon ceph-osd radosgw
    fi
    "$(server)" start "$SERVER_DIR" "$(kind 4)" $$
}

stop_store() {
    [ -z "${SERVER_DIR:-}" ] || "$(server)" stop "$SERVER_DIR"
}

# setting NAME: what the server has told of itself
setting() {
    sed -n "s/^$1 //p" "$SERVER_DIR/settings"
}

# store_settings: lines for a configuration.  Tests do not see each other:
# each has a prefix of its own.
store_settings() {
    if [ "$STORE_KIND" = dir ]; then
        echo "s3dir $STORE"
        return
    fi
    if [ "$(kind 3)" = virtual ]; then
        echo "s3host $(setting name)"
    else
        echo "s3host 127.0.0.1"
    fi
    setting "$(kind 2)" | tr ' ' '\n' | sed 's/^/s3port /'
    if [ "$(kind 2)" = https ]; then
        echo "s3ssl 1"
        echo "s3ca $(setting ca)"
    else
        echo "s3ssl 0"
    fi
    echo "s3addressing $(kind 3)"
    echo "s3accesskey $(setting accesskey)"
    echo "s3secretkey $(setting secretkey)"
    echo "s3bucket test"
    echo "s3prefix test$BATS_TEST_NUMBER/"
}

# make_bucket: that of $CONFIG, unless there is one
make_bucket() {
    if [ "$STORE_KIND" = dir ]; then
        mkdir -p "$STORE"
        return
    fi
    chmod 600 "$CONFIG"
    [ -e "$SERVER_DIR/has_bucket" ] || "$STORE_TOOL" "$CONFIG" bucket
    touch "$SERVER_DIR/has_bucket"
}

# needs_dir_store: skip a test that changes the files of a store
needs_dir_store() {
    [ "$STORE_KIND" = dir ] || skip "only for a store in a directory"
}

# store COMMAND...: look at the store, and change it: see store.py
store() {
    "$STORE_TOOL" "$CONFIG" "$@"
}

# other_store NAME: standard input, a configuration, with another store that
# begins empty
other_store() {
    local prefix=test$BATS_TEST_NUMBER-$1/

    [ "$STORE_KIND" != dir ] || mkdir -p "$BATS_TEST_TMPDIR/$1"
    sed "s|^s3dir .*|s3dir $BATS_TEST_TMPDIR/$1|; s|^s3prefix .*|s3prefix $prefix|"
}
