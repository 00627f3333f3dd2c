# Run a command as in an agent's container: agent_container.sh ROOT FILES PYTHON APP ENVIRONMENT UID GID COMMAND...
# This is for namespaces of its own (unshare --mount --pid). ROOT is an empty folder, FILES is what /etc/interlock has,
# PYTHON the folder of an interpreter, APP what /app has, ENVIRONMENT a virtual environment for /venv or an empty text.
set -eu
umask 022
root=$1 files=$2 python=$3 app=$4 environment=$5 uid=$6 gid=$7
shift 7

mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$root"

# Of the machine: programs and libraries, and an interpreter that may be elsewhere. No cache, no home, no certificate.
add() { # add FOLDER PLACE: mount it read-only
  mkdir -p "$root$2"
  mount --bind "$1" "$root$2"
  mount -o remount,bind,ro,nosuid,nodev "$root$2"
}
for folder in bin sbin lib lib32 lib64; do
  if [ -L "/$folder" ]; then ln -s "$(readlink "/$folder")" "$root/$folder"
  elif [ -d "/$folder" ]; then add "/$folder" "/$folder"; fi
done
add /usr /usr
case $python in /usr | /usr/*) ;; *) add "$python" "$python" ;; esac
add "$app" /app
[ -z "$environment" ] || add "$environment" /venv
add "$files" /etc/interlock
[ ! -d /etc/ssl ] || add /etc/ssl /etc/ssl
[ ! -d /etc/alternatives ] || add /etc/alternatives /etc/alternatives
[ ! -f /etc/ld.so.cache ] || cp /etc/ld.so.cache "$root/etc/"
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
echo '127.0.0.1 localhost' >"$root/etc/hosts"
echo 'nameserver 127.0.0.1' >"$root/etc/resolv.conf"

mkdir -p "$root/proc" "$root/tmp" "$root/dev"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
for device in null zero full random urandom; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/shm"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
mount -o remount,ro "$root/dev"
mount -t tmpfs -o mode=1777,nosuid,nodev,size=512m tmpfs "$root/tmp"
mount -o remount,ro "$root"

exec chroot "$root" setpriv --reuid "$uid" --regid "$gid" --clear-groups --no-new-privs --bounding-set -all \
  --inh-caps -all "$@"
