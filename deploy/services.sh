# shellcheck shell=bash
# shellcheck disable=SC2154 # repo, and what machine.sh sets
# Functions of deploy/up and deploy/cluster: the data folder, and the processes that use it.
# What must hold: all files are in the data folder, and everything listens on loopback. Processes are stopped in the
# order of the script's `stop_all`, including those that a killed run has left.

# --- data folder ------------------------------------------------------------------------------------------------

# Makes a folder and sets $data to it. Changes to /, because user postgres may be unable to read the folder that the
# script is called from.
open_data() {
  umask 077
  mkdir -p "$1"
  data="$(cd "$1" && pwd)"
  run="$data/run"
  mkdir -p "$run"
  exec 9>"$data/lock"
  cd /
}

# Locks the data folder until the script ends; fails if another script has locked it.
lock_data() { flock -n 9; }

# Prints the secret of this name; the first call generates it. It begins with a letter, because nats-server would read
# digits as a number.
secret() {
  local file="$data/secrets/$1"
  mkdir -p "$data/secrets"
  [ -s "$file" ] || printf 'r%s' "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" >"$file"
  cat "$file"
}

port_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Chooses a port for each name: the one of the last start, unless it is taken now.
choose_ports() {
  local name port
  mkdir -p "$data/ports"
  for name in "$@"; do
    port="$(port "$name")"
    until [ -n "$port" ] && ! port_taken "$port"; do
      port=$((RANDOM % 10000 + 20000))
      ! grep -qsx "$port" "$data/ports"/* || port=
    done
    printf '%s\n' "$port" >"$data/ports/$name"
  done
}

# Prints the port that was chosen for a name.
port() { cat "$data/ports/$1" 2>/dev/null || true; }

# --- processes --------------------------------------------------------------------------------------------------

# The processes that this script has started: names by pid.
declare -A names=()

# Starts a service in its own session, so that a Ctrl-C only reaches the script. Sets $started to the pid.
# Arguments: name, a mark (a part of the command line that no other process has), command.
start_service() {
  local name="$1" mark="$2"
  shift 2
  setsid "$@" >>"$data/$name.log" 2>&1 9>&- &
  started=$!
  printf '%s\n%s\n' "$started" "$mark" >"$run/$name.pid"
  # shellcheck disable=SC2034 # deploy/cluster reads it
  names[$started]="$name"
}

# Whether a process runs; a zombie does not count.
alive() {
  local state
  state="$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -c1)" && [ -n "$state" ] && [ "$state" != Z ]
}

# Prints the pid of a service if it runs. The mark shows whether the pid now belongs to another program.
pid_of() {
  local pid mark
  { read -r pid && read -r mark; } 2>/dev/null <"$run/$1.pid" || return 1
  [ -n "$mark" ] && { tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null | grep -qF -- "$mark" || return 1
  printf '%s' "$pid"
}

# Stops all services whose names begin with a prefix, also those of earlier runs, and waits for them.
# Arguments: prefix, signal, seconds until they are killed.
stop_services() {
  local file name pid tries=$(($3 * 10)) pids=()
  for file in "$run/$1"*.pid; do
    name="$(basename "$file" .pid)"
    if pid="$(pid_of "$name")" && kill -s "$2" "$pid" 2>/dev/null; then
      pids+=("$pid")
    fi
    rm -f "$file"
  done
  for pid in "${pids[@]}"; do
    while alive "$pid"; do
      if [ "$tries" -le 0 ]; then
        say "process $pid did not stop in $3 s: killed"
        kill -s KILL "$pid" 2>/dev/null || true
        break
      fi
      tries=$((tries - 1))
      sleep 0.1
    done
  done
}

stopping=
building=
# shellcheck disable=SC2317 # called by the trap
finish() {
  local code=$?
  trap - EXIT
  trap '' INT TERM HUP
  [ -z "$stopping" ] || say "stopping"
  [ -z "$building" ] || kill -- "-$building" 2>/dev/null || true
  stop_all
  exit "$code"
}

# Stops what an earlier run has left, and makes the script stop all services when it ends.
stop_at_exit() {
  trap finish EXIT
  trap 'stopping=yes; exit 0' INT TERM HUP
  stop_all
}

# Waits until a service answers at a URL without an error; dies if the service ends. Arguments: name, URL.
wait_for() {
  local pid
  read -r pid <"$run/$1.pid"
  until curl -fsS -m 2 -o /dev/null "$2" 2>/dev/null; do
    if ! alive "$pid"; then
      tail -n 20 "$data/$1.log" >&2
      die "$1 did not start: see $data/$1.log"
    fi
    sleep 0.3
  done
}

# --- PostgreSQL -------------------------------------------------------------------------------------------------

# Runs one of PostgreSQL's programs as superuser of our server.
as_superuser() {
  PGPASSWORD="$(secret postgres-admin)" PGHOST=127.0.0.1 PGPORT="$(port postgres)" PGUSER=postgres PGCONNECT_TIMEOUT=5 \
    "$@"
}

# Prints the database's URL for a role of Roomcast.
database_url() {
  printf 'postgres://roomcast_%s:%s@127.0.0.1:%s/roomcast' "$1" "$(secret "postgres-$1")" "$(port postgres)"
}

# Starts a private PostgreSQL on its chosen port, and creates the database and its roles if they are missing.
start_postgres() {
  local bin as_postgres=() folder="$data/postgres" ready=
  bin="$(postgres_bin)"
  [ -n "$bin" ] || die "PostgreSQL is installed, but not in /usr/lib/postgresql/*/bin, nor on the PATH"
  if [ "$(id -u)" = 0 ]; then
    # PostgreSQL refuses to run as root.
    as_postgres=(setpriv --reuid=postgres --regid=postgres --init-groups --)
    chmod o+x "$data"
    if ! "${as_postgres[@]}" test -x "$data"; then
      # For example a checkout under /root. The random name belongs to this data folder.
      folder="/var/lib/roomcast/$(secret instance)"
      say "user postgres can't reach $data: its files are in $folder"
    fi
    mkdir -p "$folder"
    [ "$folder" = "$data/postgres" ] || chmod o+x "$(dirname "$folder")"
    chown postgres:postgres "$folder"
  fi
  [ -e "$folder/initialised" ] || make_database
  # After a kill -9 the old processes need a moment to release the folder.
  for _ in $(seq 1 20); do
    start_service postgres "$folder" "${as_postgres[@]}" "$bin/postgres" -D "$folder" \
      -c listen_addresses=127.0.0.1 -c "port=$(port postgres)" -c unix_socket_directories= -c max_connections=100
    while alive "$started"; do
      if as_superuser "$bin/pg_isready" -q; then
        ready=yes
        break 2
      fi
      sleep 0.2
    done
    sleep 1
  done
  [ -n "$ready" ] || die "PostgreSQL did not start: see $data/postgres.log"
  as_superuser "$bin/psql" -qtAd postgres -c "SELECT 1 FROM pg_database WHERE datname = 'roomcast'" | grep -q 1 ||
    as_superuser "$bin/createdb" roomcast
  POSTGRES_API_PASSWORD="$(secret postgres-api)" \
    POSTGRES_PERSISTER_PASSWORD="$(secret postgres-persister)" \
    POSTGRES_MONITOR_PASSWORD="$(secret postgres-monitor)" \
    as_superuser "$bin/psql" -q -v ON_ERROR_STOP=1 -d roomcast -f "$repo/deploy/postgres/roles.sql" \
    >>"$data/postgres.log" 2>&1 || die "the roles could not be created: see $data/postgres.log"
}

# Runs initdb. Uses variables of start_postgres, which calls it.
make_database() {
  local password_file made=yes
  say "creating the database in $folder"
  # An interrupted initdb may have left files.
  "${as_postgres[@]}" find "$folder" -mindepth 1 -delete 2>/dev/null || true
  password_file="$(mktemp)"
  secret postgres-admin >"$password_file"
  [ ${#as_postgres[@]} = 0 ] || chown postgres "$password_file"
  "${as_postgres[@]}" "$bin/initdb" -D "$folder" -U postgres -A scram-sha-256 -E UTF8 --locale=C.UTF-8 \
    --pwfile="$password_file" >"$data/postgres.log" 2>&1 9>&- || made=
  rm -f "$password_file"
  [ -n "$made" ] || die "initdb failed: see $data/postgres.log"
  "${as_postgres[@]}" touch "$folder/initialised"
}

# --- NATS -------------------------------------------------------------------------------------------------------

# Starts a nats-server on its chosen port. Arguments: name, program, configuration file in deploy/nats.
start_nats() {
  local name="$1" program="$2" config="$repo/deploy/nats/$3"
  mkdir -p "$data/$name"
  # Quoted: nats-server reads the variable as a configuration value.
  NATS_STORE_DIR="\"$data/$name\"" \
    NATS_API_PASSWORD="$(secret nats-api)" \
    NATS_FANOUT_PASSWORD="$(secret nats-fanout)" \
    NATS_PERSISTER_PASSWORD="$(secret nats-persister)" \
    start_service "$name" "-p $(port "$name")" "$program" -c "$config" -a 127.0.0.1 -p "$(port "$name")"
  until port_taken "$(port "$name")"; do
    alive "$started" || die "nats-server did not start: see $data/$name.log"
    sleep 0.1
  done
}

# Prints the broker's URLs, separated by commas. Arguments: user, names of the servers.
nats_url() {
  local user="$1" name urls=()
  shift
  for name in "$@"; do urls+=("nats://$user:$(secret "nats-$user")@127.0.0.1:$(port "$name")"); done
  (IFS=, && printf '%s' "${urls[*]}")
}

# --- Roomcast ---------------------------------------------------------------------------------------------------

# Exports the variables that all processes of Roomcast read.
roomcast_environment() {
  if [ -z "${ROOMCAST_JWT_SECRET:-}" ] && [ -z "${ROOMCAST_JWT_JWKS:-}" ]; then
    ROOMCAST_JWT_SECRET="$(secret jwt)"
    export ROOMCAST_JWT_SECRET
  fi
  export ROOMCAST_DATA="$data" ROOMCAST_MEDIA="${ROOMCAST_MEDIA:-$data/media}"
  export ROOMCAST_LOG_FORMAT="${ROOMCAST_LOG_FORMAT:-pretty}"
}

# Builds packages and sets ROOMCAST_PROGRAMS to the folder of their programs, unless it is set already.
build() {
  [ -z "${ROOMCAST_PROGRAMS:-}" ] || return 0
  say "building"
  # In the background, so that signals are handled at once; as a process group, so that the compilers end too.
  set -m
  (cd "$repo" && exec cargo build --release --locked "${@/#/--package=}" 9>&-) &
  building=$!
  set +m
  wait "$building" || die "the build failed"
  building=
  ROOMCAST_PROGRAMS="$target/release"
}

# Prints the URL of a listen address. If the address is that of all interfaces, the URL has loopback instead.
url_of() {
  local host="${1%:*}"
  case "$host" in 0.0.0.0 | '[::]' | '') host=127.0.0.1 ;; esac
  printf 'http://%s:%s' "$host" "${1##*:}"
}

say_tokens() {
  local url="$1" ann bob
  [ -n "${ROOMCAST_JWT_SECRET:-}" ] || return 0
  ann="$("$ROOMCAST_PROGRAMS/roomcast" token --user ann --hours 24 2>/dev/null)"
  bob="$("$ROOMCAST_PROGRAMS/roomcast" token --user bob --hours 24 2>/dev/null)"
  say ""
  say "Tokens for a day:"
  say "  ANN=$ann"
  say "  BOB=$bob"
  say ""
  say "A web page for each of the two; open each in its own window:"
  say "  $url/#token=$ann"
  say "  $url/#token=$bob"
  say ""
  say "Try:"
  say "  curl -H \"Authorization: Bearer \$ANN\" -H 'Content-Type: application/json' -d '{\"name\":\"Tea\"}' $url/api/v1/rooms"
  say "  curl -H \"Authorization: Bearer \$ANN\" $url/api/v1/rooms"
}

say_psql() {
  say "  PGPASSWORD=\"\$(cat '$data/secrets/postgres-api')\" psql -h 127.0.0.1 -p $(port postgres) -U roomcast_api roomcast"
}

say_nats() {
  say "  nats --server nats://127.0.0.1:$(port "$1") --user api --password \"\$(cat '$data/secrets/nats-api')\" --inbox-prefix _INBOX_api sub 'live.>'"
}
