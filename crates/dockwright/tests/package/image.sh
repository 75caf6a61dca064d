#!/usr/bin/env bash
# Within a container of the runner's image: registers a runner at a coordinator beside it, runs a job, and prints what it finds.
set -euo pipefail

fail() {
  cat "$@" >&2
  exit 1
}

# Without curl: METHOD PATH
call() {
  exec 3<>"/dev/tcp/${address%:*}/${address##*:}"
  printf '%s /api/v4/projects/%s HTTP/1.1\r\nHost: %s\r\nPRIVATE-TOKEN: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n' \
    "$1" "$2" "$address" "$(cat /tmp/data/personal-token)" >&3
  cat <&3
  exec 3<&- 3>&-
}

echo "user $(id -un) $(id -u), home $HOME"
git --version | cut -d ' ' -f 1-2
grep -c 'BEGIN CERTIFICATE' /etc/ssl/certs/ca-certificates.crt | awk '{ print ($1 > 100 ? "certificates" : "no certificates") }'

mkdir /tmp/app
cd /tmp/app
printf 'job:\n  script: ["echo job of $(id -un) in $PWD"]\n' >.gitlab-ci.yml
git init -q -b main
git add .
git -c user.name=t -c user.email=t@t commit -q -m first
cd /
dockwright coordinator serve --listen 127.0.0.1:0 --data /tmp/data --project group/app=/tmp/app >/tmp/coordinator 2>&1 &
for _ in $(seq 400); do
  ! grep -q COORDINATOR= /tmp/coordinator || break
  sleep 0.05
done
address=$(sed -n 's|^COORDINATOR=http://||p' /tmp/coordinator)
[ -n "$address" ] || fail /tmp/coordinator

gitlab-runner register --non-interactive --url "http://$address" --registration-token "$(cat /tmp/data/registration-token)" \
  --executor shell --name in-a-container >/tmp/register 2>&1 || fail /tmp/register
stat -c '%a %U:%G %n' "$CONFIG_FILE"
gitlab-runner run --user=gitlab-runner --working-directory=/home/gitlab-runner >/tmp/runner 2>&1 &
runner=$!
call POST 'group%2Fapp/pipeline?ref=main' >/dev/null
status=
for _ in $(seq 400); do
  status=$(call GET 1/jobs/1 | grep -oE '"status":"(success|failed)"' | head -n 1 || true)
  [ -z "$status" ] || break
  sleep 0.1
done
echo "job: $status"
call GET 1/jobs/1/trace >/tmp/trace
grep -aoE ' 01O job of .*' /tmp/trace | sed -E 's|builds/[^/]+/|builds/[token]/|' || fail /tmp/trace /tmp/runner
# What `docker stop` sends.
kill -QUIT "$runner"
wait "$runner"
echo "drained"
