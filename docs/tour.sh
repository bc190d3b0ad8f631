#!/usr/bin/env bash
# Plays the commands of the documentation in an empty directory and compares what they print. The commands come from the pages
# themselves, so this fails if a page changes and the command was not tried. Usage: docs/tour.sh [PATH OF shell]
#
# Pages: the tour of README.md, docs/serve.md and docs/mailbox-server.md. A command is a line that is indented by four spaces.
set -uo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
bin=${1:-$(command -v shell || true)}
[ -x "$bin" ] || { echo "tour: no command 'shell': give its path"; exit 2; }
bin=$(realpath "$bin")

place=$(mktemp -d)
mkdir -m 700 "$place/run" "$place/bin" "$place/empty"
ln -s "$bin" "$place/bin/shell"
export PATH="$place/bin:$PATH" XDG_RUNTIME_DIR="$place/run" LC_ALL=C
trap 'shell dipcrm "${port:-9000}" >/dev/null 2>&1; rm -rf "$place"' EXIT
cd "$place/empty"
# What the tour copies.
cp "$here/Cargo.toml" . && cp -r "$here/core" .
# The port of the pages, or the next one that is free.
port=9000
while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
# A stand-in for nc where it is missing, so that the conversation is played everywhere.
if ! command -v nc >/dev/null; then
  nc() { exec 3<>"/dev/tcp/$1/$2" && cat >&3 && cat <&3; }
  export -f nc
fi

commands() { sed -n 's/^    //p'; } # what can be typed, of a page
pages=$(sed -n '/^## A tour/,/^## Languages/p' "$here/README.md" | commands
        commands < "$here/docs/serve.md"
        commands < "$here/docs/mailbox-server.md")
failed=0
walked=0

# step BEGINNING EXPECTED: plays every line from the one that begins with BEGINNING to the next step, and compares what they print.
steps=()
expected=()
step() { steps+=("$1"); expected+=("$2"); }

step "shell copy -n 3 Cargo.toml" "peer-01_Cargo.toml peer-02_Cargo.toml peer-03_Cargo.toml"
step "shell copy --socket" ""
step "tar c core | shell copy" '{"bytes":*,"transport":"shm",*"error":null,*}]}'
step "echo 'Hello" "Hello from the other side!"
step "tar c core | shell send src" "core/* core/* core/*"
step "shell ls" "*kernel*Linux*"
step "shell serve one" "Total Servers: 1 Host: 1 Container: 0 VM: 0 Messages: by TCP by memory"
step "shell dipc 8 64 9000 4" "listening on 127.0.0.1:$port *ok 3 1 data 3 1 11 hello there*hello thereversion 2 stopped the mailbox server on port $port"

run() { # run LINES: in one process, so that background commands are waited for
  local lines
  lines=$(printf '%s\n' "$1" | sed "s/ 9000/ $port/g; s/shell mail /shell mail -p $port /")
  timeout 120 bash -c "$lines"$'\nwait' 2>&1
}

text() { printf '%s' "$1" | tr -s '\n ' '  ' | sed 's/^ //; s/ $//'; }

for index in "${!steps[@]}"; do
  begin=${steps[$index]}
  next=${steps[$((index + 1))]:-}
  lines=$(printf '%s\n' "$pages" | awk -v begin="$begin" -v stop="$next" '
    index($0, begin) == 1 { on = 1 }
    stop != "" && index($0, stop) == 1 { on = 0 }
    on')
  if [ -z "$lines" ]; then
    echo "FAILED: no page has a line that begins with: $begin"
    failed=1
    continue
  fi
  walked=$((walked + $(printf '%s\n' "$lines" | wc -l)))
  found=$(text "$(run "$lines")")
  # shellcheck disable=SC2053  # a pattern on the right
  if [[ $found == ${expected[$index]} ]]; then
    echo "ok: $begin"
  else
    printf 'FAILED: %s\n  expected: %s\n  found:    %s\n' "$begin" "${expected[$index]}" "$found"
    failed=1
  fi
done

# The copies equal their source, and no line of the pages was left out.
for copy in received-files/peer-0{1,2,3}_Cargo.toml out/Cargo.toml.0{1,2,3}; do
  cmp -s Cargo.toml "$copy" || { echo "FAILED: $copy is not the file"; failed=1; }
done
all=$(printf '%s\n' "$pages" | grep -c .)
[ "$walked" = "$all" ] || { echo "FAILED: $walked of $all lines of the pages were played"; failed=1; }
left=$(shell ls; ls "$XDG_RUNTIME_DIR/whorl")
[ -z "$left" ] || { echo "FAILED: left behind: $left"; failed=1; }
[ "$failed" = 0 ] && echo "the tour is as the pages say: $walked lines"
exit "$failed"
