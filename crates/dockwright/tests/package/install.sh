#!/usr/bin/env bash
# Installs a package in a root file system of its own, uses it, and removes it; prints what it finds on the way.
#
#   unshare --mount --pid --fork --kill-child bash install.sh DIR PACKAGE
#
# The root is this machine's with a layer above that takes all writes, in DIR. It is entered by pivot_root: the kernel makes no user
# namespace in a chroot. Ends with 77 where such a root cannot be made.
set -euo pipefail

enter_new_root() {
  local dir=$1 package=$2 place
  mount --make-rprivate /
  mount -t tmpfs tmpfs "$dir"
  mkdir "$dir"/{upper,work,root,home}
  mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" "$dir/root" || exit 77
  for place in tmp run; do mount -t tmpfs tmpfs "$dir/root/$place"; done
  # What jobs keep cannot lie on an overlay.
  mount --bind "$dir/home" "$dir/root/home"
  mount -t proc proc "$dir/root/proc"
  mount --rbind /sys "$dir/root/sys"
  mount --rbind /dev "$dir/root/dev"
  cp "$package" "$dir/root/tmp/dockwright.deb"
  mkdir "$dir/root/run/old"
  cd "$dir/root"
  pivot_root . run/old
  cd /
  umount -l /run/old
}

# Dependencies are the machine's affair, and so are triggers of other packages.
install_package() { dpkg --force-depends --force-unsafe-io --no-triggers --install /tmp/dockwright.deb >/tmp/dpkg.log 2>&1 || fail /tmp/dpkg.log; }

fail() {
  cat "$1" >&2
  exit 1
}

show_files() { stat -c '%a %U:%G %n' "$@"; }

sub_ids() { awk -F : '$1 == "gitlab-runner" { print FILENAME, $3 }' /etc/subuid /etc/subgid; }

# Without curl: METHOD PATH
call() {
  exec 3<>"/dev/tcp/${address%:*}/${address##*:}"
  printf '%s /api/v4/projects/%s HTTP/1.1\r\nHost: %s\r\nPRIVATE-TOKEN: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n' \
    "$1" "$2" "$address" "$(cat /tmp/data/personal-token)" >&3
  cat <&3
  exec 3<&- 3>&-
}

start_coordinator() {
  mkdir /tmp/app
  printf 'job:\n  script: ["echo job of $(id -un) in $PWD", "docker info --format \\"engine for {{.OSType}}\\""]\n' >/tmp/app/.gitlab-ci.yml
  (cd /tmp/app && git init -q -b main && git add . && git -c user.name=t -c user.email=t@t commit -q -m first)
  dockwright coordinator serve --listen 127.0.0.1:0 --data /tmp/data --project group/app=/tmp/app >/tmp/coordinator 2>&1 &
  until grep -q COORDINATOR= /tmp/coordinator; do sleep 0.05; done
  address=$(sed -n 's|^COORDINATOR=http://||p' /tmp/coordinator)
}

# What systemd does with the unit.
start_service() {
  local command
  command=$(sed -n 's/^ExecStart=//p' /usr/lib/systemd/system/gitlab-runner.service)
  runuser -u gitlab-runner -- env -i HOME=/home/gitlab-runner USER=gitlab-runner PATH="$PATH" sh -c "exec $command" >/tmp/service 2>&1 &
  service=$!
}

# The number of the job it makes.
run_pipeline() {
  local job=$1 status=
  call POST 'group%2Fapp/pipeline?ref=main' >/dev/null
  for _ in $(seq 200); do
    status=$(call GET "1/jobs/$job" | grep -oE '"status":"(success|failed)"' | head -n 1 || true)
    [ -z "$status" ] || break
    sleep 0.1
  done
  echo "job: $status"
  call GET "1/jobs/$job/trace" >/tmp/trace
  # A line begins with its time and stream.
  grep -aoE ' 01O (job of|engine for) .*' /tmp/trace || fail /tmp/trace
}

enter_new_root "$@"
umask 022
export HOME=/root

echo "# Installed"
install_package
show_files /etc/gitlab-runner /etc/gitlab-runner/config.toml /home/gitlab-runner /var/lib/dockwright /usr/bin/dockwright \
  /usr/lib/systemd/system/gitlab-runner.service
getent passwd gitlab-runner | cut -d : -f 1,5-
sub_ids
readlink -f /etc/systemd/system/multi-user.target.wants/gitlab-runner.service
! command -v systemd-analyze >/dev/null || systemd-analyze verify gitlab-runner.service
gitlab-runner list 2>&1 | grep -o 'ConfigFile=.*'

echo "# Registered and run"
start_coordinator
gitlab-runner register --non-interactive --url "http://$address" --registration-token "$(cat /tmp/data/registration-token)" \
  --executor shell --name packaged >/tmp/register 2>&1 || fail /tmp/register
show_files /etc/gitlab-runner/config.toml
start_service
run_pipeline 1

echo "# Upgraded"
before=$(sha256sum /etc/gitlab-runner/config.toml /etc/passwd /etc/subuid /etc/subgid)
install_package
[ "$before" = "$(sha256sum /etc/gitlab-runner/config.toml /etc/passwd /etc/subuid /etc/subgid)" ] && echo "configuration and account are kept"
kill -0 "$service" && echo "the service runs on"
run_pipeline 2

echo "# Removed"
pkill -TERM -P "$service"
wait "$service" || true
dpkg --remove dockwright >/tmp/dpkg.log 2>&1 || fail /tmp/dpkg.log
show_files /etc/gitlab-runner/config.toml

echo "# Purged"
dpkg --purge dockwright >/tmp/dpkg.log 2>&1 || fail /tmp/dpkg.log
ls -d /etc/gitlab-runner /home/gitlab-runner /var/lib/dockwright /usr/share/dockwright /usr/bin/dockwright 2>/dev/null || echo "no files"
getent passwd gitlab-runner || echo "no account"
grep -s gitlab-runner /etc/subuid /etc/subgid || echo "no sub-ids"
find /etc/systemd /var/lib/systemd -name 'gitlab-runner*' | grep . || echo "no unit"
