# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# files - what the checks look at; sourced by them.

# Print the C sources of this pattern: '*.c', '*.h', '*.[ch]'.
c_files()
{
    find . \( -name .git -o -name build -o -name node_modules \) -prune \
        -o -type f -name "$1" -print | sed 's|^\./||' | sort
}

# Print the shell scripts, whatever they are called.
shell_files()
{
    find . \( -name .git -o -name build -o -name node_modules \
        -o -name '*.[ch]' -o -path './tests/fuzz/corpus' \) -prune \
        -o -type f -print |
        while read -r file; do
            case $file in
            *.bats | *.sh | *.bash) echo "$file" ;;
            *)
                if head -n 1 "$file" | grep -qaE '^#!.*\b(ba)?sh\b'; then
                    echo "$file"
                fi
                ;;
            esac
        done | sed 's|^\./||' | sort
}

# Print the flags that the Makefile gives to clang.
clang_flags()
{
    env -u MAKEFLAGS -u MAKELEVEL make -s --no-print-directory print-flags CC=clang VARIANT=debug
}

# Run a command once for each line of input, side by side; each command's
# output stays together.  Fails if any did.
for_each()
{
    xargs -r -d '\n' -n 1 -P "${JOBS:-$(nproc)}" "$@"
}
