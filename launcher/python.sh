# Sets `python` to the first Python 3.11 or newer of this machine; sourced by bin/up and bin/test.

# A Ctrl-C that a child takes for a failure of its own must not let us go on to the next command.
trap 'exit 130' INT

python=
for candidate in "${PYTHON:-python3}" python3 python3.11 python3.12 python3.13 python3.14; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "$LLM_SERVICE_PROGRAM: needs Python 3.11 or newer: install it, or name one: PYTHON=/path/to/python3 $0" >&2
    exit 1
fi
