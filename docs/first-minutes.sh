#!/usr/bin/env bash
# Plays the commands of the documentation as typed, in a copy of the checkout with an empty home and an empty runtime directory, and
# compares what they print. The commands come from the pages themselves, so a page cannot promise what was not tried.
#
#   docs/first-minutes.sh [PROGRAM]
#
# PROGRAM is a built `shell`. It stands in for what cargo would build, and so do the C libraries beside it. Without PROGRAM, the script
# installs the command with cargo first, as README says, and cargo builds everything else. That takes minutes.
#
# Pages: README.md, docs/serve.md and docs/mailbox-server.md. A block of lines that are indented by four spaces is typed. A plain fence
# that begins with `$ ` holds commands and what they print. Another plain fence is what the block above it prints. The script holds what
# the other blocks print. Times, process ids and ports may differ. A block is skipped, with a reason, if this machine cannot play it.
set -uo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
pages=(README.md docs/serve.md docs/mailbox-server.md)
program=${1:-}
if [ -n "$program" ]; then
  [ -x "$program" ] || { echo "first-minutes: $program is not a program; give the path of a built 'shell'" >&2; exit 2; }
  program=$(realpath "$program")
fi
has() { command -v "$1" >/dev/null; }

# --- The place: a copy of the checkout, a home, a runtime directory, and the programs that stand in for others.
place=$(mktemp -d)
mkdir -m 700 "$place"/{run,bin,home,whorl,app}
trap 'shell dipcrm "$port" >/dev/null 2>&1; rm -rf "$place"' EXIT
tar -C "$here" --exclude=target --exclude=./.git -cf - . | tar -C "$place/whorl" -xf -
real_cargo=$(command -v cargo || true)
export CARGO_HOME=${CARGO_HOME:-$HOME/.cargo} RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup} CARGO_INSTALL_ROOT=$place/home/.cargo
export HOME=$place/home XDG_RUNTIME_DIR=$place/run LC_ALL=C PATH=$place/bin:$place/home/.cargo/bin:$PATH
unset CARGO_TARGET_DIR WHORL_LIBRARIES PKG_CONFIG_PATH LD_LIBRARY_PATH DESTDIR NO_COLOR
cd "$place/whorl" || exit 2

stand_in() { printf '#!/bin/sh\n%s\n' "$2" >"$place/bin/$1" && chmod +x "$place/bin/$1"; }
library=
if [ -n "$program" ]; then
  ln -s "$program" "$place/bin/shell"
  stand_in cargo 'case $1 in run) shift 3; exec shell "$@" ;; build) ;; *) exec '"${real_cargo:-false}"' --offline "$@" ;; esac'
  # Cargo puts what it builds for a test into deps, perhaps with a number in the name, and what it builds by name beside the command.
  library=$(ls -t "$(dirname "$program")"/{deps/,}libwhorl_c*.a 2>/dev/null | head -1)
  mkdir -p target/release && ln -s "${library:-/nowhere}" target/release/libwhorl_c.a
  changed=$(cd "$here" && find {core,shell,capi}/src -name '*.rs' -not -path '*/bin/*' -newer "$library" 2>/dev/null)
else
  cargo install --path shell >"$place/install" 2>&1 || { cat "$place/install"; exit 1; }
fi
# The conversation is played also where nc is missing.
if ! has nc; then
  echo "no nc: a stand-in opens the connection"
  stand_in nc 'exec bash -c '\''exec 3<>"/dev/tcp/$0/$1" && cat >&3 && cat <&3'\'' "$@"'
fi
if [ -n "${FIRST_MINUTES_OWN_ROOT:-}" ]; then stand_in sudo 'exec env "$@"'; fi
# A free port below those that the kernel gives away.
port=$((20000 + RANDOM % 10000))
while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done

# --- The blocks of the pages: what is typed, and what the page shows.
typed=()
shown=()
# Tells an output that is not shown from an empty one.
nothing=$'\1'
read_page() {
  local line fence='' text='' open=''
  while IFS= read -r line; do
    case $fence:$line in
      :'```'*) fence=${line#'```'} fence=${fence:-plain} text='' open='' ;;
      :'    '*)
        if [ -n "$open" ]; then typed[-1]+=$'\n'${line#    }; else typed+=("${line#    }") shown+=("$nothing"); fi
        open=1 ;;
      :*) open='' ;;
      plain:'```')
        if [[ $text == '$ '* ]]; then
          typed+=("$(sed -n 's/^\$ //p' <<<"$text")") shown+=("$(sed '/^\$ /d; /^$/d' <<<"$text")")
        else
          [ "${shown[-1]}" = "$nothing" ] || { echo "FAILED: no block prints this fence: $text"; exit 1; }
          shown[-1]=${text%$'\n'}
        fi
        fence='' ;;
      *:'```') fence='' ;;
      plain:*) text+=$line$'\n' ;;
    esac
  done <"$here/$1"
}
for page in "${pages[@]}"; do read_page "$page"; done

# --- What the blocks print that show nothing, and what they must leave.
beginnings=()
expected=()
checks=()
# expect BEGINNING PATTERN [CHECK]: the block that begins so prints this, each white space being one blank. Then CHECK succeeds.
expect() { beginnings+=("$1") expected+=("$2") checks+=("${3:-true}"); }

same() { local file; for file in "${@:2}"; do cmp "$1" "$file" || return 1; done; }
hello="received: hello received: from C received: end after 11 bytes 1 receiver has everything, it ended with 0 \
a second one of that name: in use server on this host: 'by TCP' and 'by memory' clients: 1"

expect "cargo run --release -- copy --shm -n 16 Cargo.lock" "*" \
  'same Cargo.lock received-files/peer-{01..16}_Cargo.lock && rm -r received-files'
expect "cargo install --path shell" "*" '[ "$(~/.cargo/bin/shell --version)" = "$(shell --version)" ]'
expect "shell copy -n 3 Cargo.toml" "peer-01_Cargo.toml peer-02_Cargo.toml peer-03_Cargo.toml" \
  'same Cargo.toml received-files/*'
expect "shell copy --socket" "" 'same Cargo.toml out/Cargo.toml.0{1,2,3}'
expect "tar c core | shell copy" '{"bytes":*,"transport":"shm",*"error":null,*}]}'
expect "echo 'Hello" "Hello from the other side!"
expect "tar c core | shell send src" "core/* core/* core/*"
expect "shell ls" "*kernel*Linux*"
expect "cargo add" "*Adding whorl-ipc (local)*" 'grep -q "path = \"../whorl/shell\"" ../app/Cargo.toml'
expect "packaging/c ~/.local" "*installed: *$hello"
expect "cargo build --release -p whorl-capi" "*installed: *$hello"
expect "shell dipc 8 64 9000 4" "listening on 127.0.0.1:$port"
expect "printf 'w 3" "ok 3 1 data 3 1 11 hello there bye quit"
expect "shell mail read 3" "hello thereversion 2 stopped the mailbox server on port $port"

# why_not BLOCK: prints why this machine cannot play a block, or nothing.
why_not() {
  case $1 in
    "cargo test"*) echo "the tests play this script" ;;
    "cargo install"*) [ -z "$program" ] || echo "cargo would build the command again, and this run tries $program" ;;
    systemctl*) echo "it starts a service on this machine" ;;
    *"sudo apt"*) echo "it installs a package on this machine" ;;
    *sudo*) [ -n "${FIRST_MINUTES_OWN_ROOT:-}" ] || echo "it installs files on this machine" ;;
    "cargo add"*) [ -n "$real_cargo" ] || echo "there is no cargo" ;;
  esac
  [[ $1 != *pkg-config* ]] && return
  local tool
  for tool in cc pkg-config; do has "$tool" || echo "there is no $tool"; done
  [ -z "$program" ] && return
  [ -n "$library" ] || echo "no libwhorl_c.a lies beside $program; run: cargo build -p whorl-capi"
  [ -z "$changed" ] || echo "libwhorl_c.a is older than its source; run: cargo build -p whorl-capi"
}

# play BLOCK: types it into one bash, which waits for the background commands. On a busy machine a receiver can be a second late, and
# then the sender says for which one it waits. That line may come or not.
play() {
  local lines
  lines=$(sed "s/ 9000/ $port/g; s/shell mail /shell mail -p $port /" <<<"$1")
  if [[ $1 == "cargo add"* ]]; then cd ../app && cargo init --quiet --name app . || return; fi
  timeout -k 10 "${FIRST_MINUTES_LIMIT:-600}" bash -c "$lines"$'\nwait' 2>&1 </dev/null | sed '/^shell: [a-z]*: waiting for /d'
}

words() { tr -s '\n ' '  ' | sed 's/^ //; s/ $//'; }

failed=0
fail() { echo "FAILED: $*"; failed=1; }
played=0
for index in "${!typed[@]}"; do
  block=${typed[$index]}
  entry=
  for candidate in "${!beginnings[@]}"; do
    if [[ $block == "${beginnings[$candidate]}"* ]]; then entry=$candidate; break; fi
  done
  [ -z "$entry" ] || unset "beginnings[$entry]"
  reason=$(why_not "$block" | head -1)
  if [ -n "$reason" ]; then
    while IFS= read -r line; do echo "SKIPPED: $line: $reason"; done <<<"$block"
    continue
  fi
  if [ "${shown[$index]}" = "$nothing" ] && [ -z "$entry" ]; then
    fail "neither its page nor this script says what this prints: $block"
    continue
  fi
  found=$(play "$block")
  if [ "${shown[$index]}" != "$nothing" ]; then
    pattern=${shown[$index]}
    [[ $found == "$pattern" ]]
  else
    pattern=${expected[$entry]}
    # shellcheck disable=SC2053  # a pattern on the right
    [[ $(words <<<"$found") == $pattern ]] && (eval "${checks[$entry]}") 2>&1
  fi
  if [ $? = 0 ]; then
    echo "ok: ${block%%$'\n'*}"
    played=$((played + $(wc -l <<<"$block")))
  else
    fail "$block"$'\n'"  expected: $pattern"$'\n'"  found:    $found"
  fi
done
for beginning in "${beginnings[@]}"; do fail "no page has a block that begins with: $beginning"; done

# No channel, no file of a name, and no process. The last ones may still be ending.
cd /
remains() { shell ls; ls "$XDG_RUNTIME_DIR/whorl"; find /proc/[0-9]*/cwd -lname "$place*" 2>/dev/null; }
for _ in {1..100}; do
  left=$(remains 2>&1)
  [ -n "$left" ] || break
  sleep 0.1
done
[ -z "$left" ] || fail "left behind: $left"
[ "$failed" = 0 ] && echo "the pages are true: $played lines"
exit "$failed"
