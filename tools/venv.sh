#!/bin/sh
# Make the Python environment: venv.sh FOLDER [PYTHON]. Debian and Ubuntu keep venv in a package of its own: root gets it
# installed, other users get the command.
set -eu
python=${2:-python3}
fail() { echo "$1" >&2; exit 1; }
ready() { "$python" -c 'import ensurepip, venv' 2>/dev/null; }

if [ "$python" = python3 ] && ! ready && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "This machine lacks Python's venv module: installing the packages python3 and python3-venv with apt-get."
  echo "To take it back: apt-get purge python3-venv. Everything else goes into the folder $1."
  export DEBIAN_FRONTEND=noninteractive
  install="apt-get install -y -qq --no-install-recommends python3 python3-venv"
  $install >/dev/null 2>&1 || { apt-get update -qq && $install >/dev/null; }
fi
ready || fail "Python's venv module is missing: as root, apt-get install python3-venv; then run this again."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
  || fail "Python 3.11 or newer is needed; $python is $("$python" -V 2>&1)."
# --clear would empty the folder that a link leads to, which may be in use elsewhere.
[ ! -L "$1" ] || fail "$1 is a link to $(readlink "$1"). Bring that environment up to date, or remove the link: rm $1"
"$python" -m venv --clear "$1"
"$1/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check --require-hashes -r requirements/dev.txt
touch "$1/.done"
