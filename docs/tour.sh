#!/usr/bin/env bash
# Walks the README's tour in an empty directory and compares what is printed with what is expected. The commands are taken from
# the README itself, so this fails if one of them is changed and not tried. Usage: docs/tour.sh [PATH OF shell]
set -uo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
bin=${1:-$(command -v shell || true)}
[ -x "$bin" ] || { echo "tour: no command 'shell': give its path"; exit 2; }
bin=$(realpath "$bin")
command -v nc >/dev/null || { echo "SKIPPED: the tour: there is no nc"; exit 0; }

place=$(mktemp -d)
mkdir -m 700 "$place/run" "$place/bin" "$place/empty"
ln -s "$bin" "$place/bin/shell"
export PATH="$place/bin:$PATH" XDG_RUNTIME_DIR="$place/run" LC_ALL=C
trap 'shell dipcrm "${port:-9000}" >/dev/null 2>&1; rm -rf "$place"' EXIT
cd "$place/empty"
# What the tour copies.
cp "$here/Cargo.toml" . && cp -r "$here/core" .
# A port that is free here: the README's, unless somebody has it.
port=9000
while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done

# The lines of the README that are commands of the tour: indented, between the two headings.
tour=$(sed -n '/^## A tour/,/^What went wrong is one line/p' "$here/README.md" | sed -n 's/^    //p')
failed=0
walked=0

# step BEGINNING EXPECTED: takes every line of the tour from the one that begins so, up to the next step's, and runs them.
steps=()
expected=()
step() { steps+=("$1"); expected+=("$2"); }

step "shell copy -n 3 Cargo.toml" "peer-01_Cargo.toml peer-02_Cargo.toml peer-03_Cargo.toml"
step "shell copy --socket" ""
step "tar c core | shell copy" '{"bytes":*,"transport":"shm",*"error":null,*}]}'
step "echo 'Hello" "Hello from the other side!"
step "tar c core | shell send src" "core/* core/* core/*"
step "shell serve one" "Total Servers: 1 Host: 1 Container: 0 VM: 0 Messages: by TCP by memory"
step "shell dipc 8 64 9000 4" "listening on 127.0.0.1:$port *ok 3 1 data 3 1 11 hello there*hello thereversion 2 stopped the mailbox server on port $port"

run() { # run LINES: in this shell, so that later steps find what earlier ones made
  local lines
  lines=$(printf '%s\n' "$1" | sed "s/ 9000/ $port/g; s/shell mail /shell mail -p $port /")
  # "and again" is read back where the next write would hide it; the version that a write prints is expected with it.
  timeout 120 bash -c "$lines"$'\nwait' 2>&1
}

text() { printf '%s' "$1" | tr -s '\n ' '  ' | sed 's/^ //; s/ $//'; }

for index in "${!steps[@]}"; do
  begin=${steps[$index]}
  next=${steps[$((index + 1))]:-}
  lines=$(printf '%s\n' "$tour" | awk -v begin="$begin" -v stop="$next" '
    index($0, begin) == 1 { on = 1 }
    stop != "" && index($0, stop) == 1 { on = 0 }
    on')
  if [ -z "$lines" ]; then
    echo "FAILED: the README has no line that begins with: $begin"
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

# The copies are what was copied, and nothing of the tour was left out.
for copy in received-files/peer-0{1,2,3}_Cargo.toml out/Cargo.toml.0{1,2,3}; do
  cmp -s Cargo.toml "$copy" || { echo "FAILED: $copy is not the file"; failed=1; }
done
all=$(printf '%s\n' "$tour" | grep -c .)
[ "$walked" = "$all" ] || { echo "FAILED: $walked of $all lines of the tour were walked"; failed=1; }
left=$(shell ls; ls "$XDG_RUNTIME_DIR/whorl")
[ -z "$left" ] || { echo "FAILED: left behind: $left"; failed=1; }
[ "$failed" = 0 ] && echo "the tour is as the README says: $walked lines"
exit "$failed"
