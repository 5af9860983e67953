#!/usr/bin/env bash
# Writes a compose file for N agencies and one server or several, another one with which
# they use TLS, and puts the agencies' bets into .data/. Needs bash. For more agencies than the dataset has, it also
# needs a loteria on the PATH, Go, or Docker.
set -euo pipefail
unset CDPATH # with it, cd may print a path

readonly agencies_default=5
readonly agencies_max=1000      # a Docker bridge takes at most 1023 containers
readonly dataset_agencies=5     # agencies in testdata/dataset.zip
readonly servers_min=3 servers_max=9 # of several servers that hold one draw together
readonly image=loteria
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
readonly root
readonly data=$root/.data

usage() {
	cat >&2 <<-EOF
		usage: ./generar-compose.sh FILE [N [SERVERS [TLS_FILE]]]

		Writes a compose file for N agencies (1 to $agencies_max; $agencies_default if not given) and one server, or
		$servers_min to $servers_max SERVERS that hold the draw together, to FILE, and unpacks the dataset into
		.data/. Then: docker compose -f FILE up --build

		TLS_FILE, if given, is a second compose file for the same draw over mutual TLS. Then:
		docker compose -f FILE -f TLS_FILE up --build
	EOF
}

bad_arguments() {
	printf 'generar-compose.sh: %s\n' "$1" >&2
	usage
	exit 2
}

fail() {
	printf 'generar-compose.sh: %s\n' "$1" >&2
	exit 1
}

say() { printf '%s\n' "$1" >&2; }

# compose_file N SERVERS writes the file to standard output.
compose_file() {
	local n=$1 servers=$2 i
	local title="One server and $n of its agencies" arguments=$n note='' another=agencies
	local server=server ledger=ledger dir="agencies-\${SERVER_AGENCIES:-$n}"
	local addresses=server:12345 boards=server:8080 id='"${SERVER_ID:-0}"' peers='' peer_addr='' plain=off
	local networks=' [loteria]' settings='' health=''
	local condition='
    server:
      condition: service_healthy'
	if ((servers > 1)); then
		title="$servers servers of one draw, and $n agencies" arguments="$n $servers" another='agencies or servers'
		note='
#
# The draw goes on as long as most servers run. They talk to each other without TLS, on
# the network of this file only. With a TLS_FILE as a second one they use certificates.'
		server=server1 ledger=ledger1 dir="servers-$servers-$dir"
		addresses='' boards='' id=1 peers='' peer_addr=:12346 plain=on
		networks=' &server-networks
      loteria:
        aliases: [server] # all servers, for agencies that take only one address'
		settings=' &server-settings' health=' &server-health'
		condition=''
		for ((i = 1; i <= servers; i++)); do
			addresses+=${addresses:+,}server$i:12345
			boards+=${boards:+,}server$i:8080
			peers+=${peers:+,}$i=server$i:12346
			condition+="
    server$i:
      condition: service_started"
		done
	fi
	cat <<-EOF
		# $title. Written by
		#
		#   ./generar-compose.sh FILE $arguments
		#
		# Set any \${NAME:-default} in the environment, or in a file .env beside this one.
		# compose/.env lists them all, and cmd/loteria/VARIABLES.md says what they mean.
		# LOTERIA_ROOT is the checkout: the folder of this file, unless compose/.env sets
		# another one.$note

		x-log: &log
		  LOG_LEVEL: "\${LOG_LEVEL:-info}" # debug, info, warn or error
		  LOG_FORMAT: "\${LOG_FORMAT:-line}" # line or json

		x-agency-settings: &agency-settings
		  <<: *log
		  AGENCY_SERVER: "\${AGENCY_SERVER:-$addresses}" # or several, with commas between them
		  # The agency takes the first of these that has its bets.
		  AGENCY_BETS: /bets:/dataset.zip
		  AGENCY_BATCH_BETS: "\${AGENCY_BATCH_BETS:-150}"
		  AGENCY_BATCH_BYTES: "\${AGENCY_BATCH_BYTES:-8192}"
		  AGENCY_WINDOW: "\${AGENCY_WINDOW:-32}" # batches that may be unanswered at once
		  AGENCY_RETRY_FOR: "\${AGENCY_RETRY_FOR:-1m}" # how long an unreachable server is tried again
		  AGENCY_REPLY_BYTES_MAX: "\${AGENCY_REPLY_BYTES_MAX:-67108864}" # the winners have to fit
		  AGENCY_SECRET: "\${AGENCY_SECRET:-}" # all agencies' alike; better give each a file
		  AGENCY_SECRET_FILE: "\${AGENCY_SECRET_FILE:-}" # compose/doc.go says how to mount it
		  AGENCY_TLS_CA_FILE: "\${AGENCY_TLS_CA_FILE:-}"
		  AGENCY_TLS_CERT_FILE: "\${AGENCY_TLS_CERT_FILE:-}"
		  AGENCY_TLS_KEY_FILE: "\${AGENCY_TLS_KEY_FILE:-}"
		  AGENCY_TLS_SERVER_NAME: "\${AGENCY_TLS_SERVER_NAME:-}"
		  AGENCY_WINNERS: "\${AGENCY_WINNERS:-}" # a file to write the winners to, such as /data/winners.csv

		x-agency: &agency
		  image: $image
		  command: [agency]
		  networks: [loteria]
		  volumes:
		    - "\${LOTERIA_ROOT:-.}/.data:/bets:ro"
		    - "\${LOTERIA_ROOT:-.}/testdata/dataset.zip:/dataset.zip:ro"
		  depends_on: # not necessary: an agency keeps trying to connect for AGENCY_RETRY_FOR$condition
		  restart: "no"

		services:
		  $server:
		    container_name: $server
		    image: $image
		    build:
		      context: "\${LOTERIA_ROOT:-.}"
		      dockerfile: compose/Dockerfile
		      args:
		        - GOPROXY # the environment's, if it is set
		    command: [server]
		    networks:$networks
		    volumes:
		      - $ledger:/data
		    environment:$settings
		      <<: *log
		      SERVER_ADDR: "\${SERVER_ADDR:-:12345}"
		      SERVER_AGENCIES: "\${SERVER_AGENCIES:-$n}" # their ids are 1 to this number
		      SERVER_WINNING_NUMBER: "\${SERVER_WINNING_NUMBER:-7574}"
		      # Another number of $another is another draw, with a ledger of its own.
		      SERVER_DATA_DIR: "/data/$dir"
		      SERVER_DURABILITY: "\${SERVER_DURABILITY:-fsync}" # fsync or os
		      SERVER_WINNERS: "\${SERVER_WINNERS:-push}" # push or poll
		      SERVER_WINNERS_SCOPE: "\${SERVER_WINNERS_SCOPE:-agency}" # agency or all
		      SERVER_EXIT_GRACE: "\${SERVER_EXIT_GRACE:-10s}" # how long to wait for agencies to come back
		      SERVER_DEADLINE: "\${SERVER_DEADLINE:-}" # until when the draw has to take place, such as 2h
		      SERVER_WINDOW: "\${SERVER_WINDOW:-64}" # an agency's frames that may be unanswered at once
		      SERVER_FRAME_BYTES_MAX: "\${SERVER_FRAME_BYTES_MAX:-65536}"
		      SERVER_CONNECTIONS_MAX: "\${SERVER_CONNECTIONS_MAX:-16384}"
		      SERVER_CONNECTIONS_PER_SOURCE: "\${SERVER_CONNECTIONS_PER_SOURCE:-0}" # 0: no limit
		      SERVER_READ_TIMEOUT: "\${SERVER_READ_TIMEOUT:-30s}" # for a peer that says or reads nothing
		      SERVER_UNREAD_BYTES_MAX: "\${SERVER_UNREAD_BYTES_MAX:-65536}" # of answers that a peer leaves unread
		      SERVER_PARTIAL_BYTES_MAX: "\${SERVER_PARTIAL_BYTES_MAX:-134217728}" # of half sent frames, of all connections
		      SERVER_QUEUE_BYTES_MAX: "\${SERVER_QUEUE_BYTES_MAX:-8388608}" # of bets that wait for the disk
		      SERVER_EVENT_LOOPS: "\${SERVER_EVENT_LOOPS:-0}" # 0: one per core
		      SERVER_AGENCY_SECRETS_FILE: "\${SERVER_AGENCY_SECRETS_FILE:-}" # compose/doc.go says how to mount it
		      SERVER_TLS_ADDR: "\${SERVER_TLS_ADDR:-}"
		      SERVER_TLS_CERT_FILE: "\${SERVER_TLS_CERT_FILE:-}"
		      SERVER_TLS_KEY_FILE: "\${SERVER_TLS_KEY_FILE:-}"
		      SERVER_TLS_CLIENT_CA_FILE: "\${SERVER_TLS_CLIENT_CA_FILE:-}"
		      SERVER_TLS_HANDSHAKES: "\${SERVER_TLS_HANDSHAKES:-256}"
		      SERVER_HTTP_ADDR: "\${SERVER_HTTP_ADDR-:8080}" # on the network of this file only; empty for none
		      SERVER_HTTP_PPROF: "\${SERVER_HTTP_PPROF:-off}"
		      SERVER_ID: $id
		      SERVER_PEERS: "\${SERVER_PEERS:-$peers}"
		      SERVER_JOIN: "\${SERVER_JOIN:-off}"
		      SERVER_PEER_ADDR: "\${SERVER_PEER_ADDR:-$peer_addr}"
		      SERVER_CLUSTER: "\${SERVER_CLUSTER:-loteria}"
		      SERVER_PEER_TLS_CERT_FILE: "\${SERVER_PEER_TLS_CERT_FILE:-}"
		      SERVER_PEER_TLS_KEY_FILE: "\${SERVER_PEER_TLS_KEY_FILE:-}"
		      SERVER_PEER_TLS_CA_FILE: "\${SERVER_PEER_TLS_CA_FILE:-}"
		      SERVER_PEER_PLAIN: "\${SERVER_PEER_PLAIN:-$plain}"
		    healthcheck:$health
		      test: ["CMD", "/loteria", "health"]
		      interval: 2s
		      timeout: 3s
		      retries: 5
		      start_period: 1m # reading a large ledger takes time
		    stop_grace_period: 30s # a stop takes well under a second, unless the disk is slow
		    restart: "no"
	EOF
	for ((i = 2; i <= servers; i++)); do
		cat <<-EOF

			  server$i:
			    container_name: server$i
			    image: $image
			    command: [server]
			    networks: *server-networks
			    volumes:
			      - ledger$i:/data
			    environment:
			      <<: *server-settings
			      SERVER_ID: $i
			    healthcheck: *server-health
			    stop_grace_period: 30s
			    restart: "no"
		EOF
	done
	for ((i = 1; i <= n; i++)); do
		cat <<-EOF

			  client$i:
			    <<: *agency
			    container_name: client$i
			    environment:
			      <<: *agency-settings
			      AGENCY_ID: $i
		EOF
	done
	cat <<-EOF

		  # With docker compose --profile board: http://127.0.0.1:8080/board/, on this machine only. This and
		  # the next profile look for servers on port 8080.
		  board:
		    container_name: board
		    image: $image
		    profiles: [board]
		    command: [board, --addr, ":8080", --servers, "$boards"]
		    networks: [loteria]
		    ports:
		      - "127.0.0.1:\${BOARD_PORT:-8080}:8080"
		    restart: "no"

		  # With --profile observability: Prometheus at http://127.0.0.1:9090, and Grafana at
		  # http://127.0.0.1:3000. compose/observability/README.md says how to use them.
		  prometheus:
		    image: prom/prometheus:v3.5.0
		    profiles: [observability]
		    networks: [loteria]
		    ports:
		      - "127.0.0.1:9090:9090"
		    volumes:
		      - "\${LOTERIA_ROOT:-.}/compose/observability/prometheus.yml:/etc/prometheus/prometheus.yml:ro"
		      - "\${LOTERIA_ROOT:-.}/compose/observability/rules.yml:/etc/prometheus/rules.yml:ro"
		      - "\${LOTERIA_ROOT:-.}/compose/observability/targets-$servers.yml:/etc/prometheus/targets.yml:ro"

		  grafana:
		    image: grafana/grafana:12.1.0
		    profiles: [observability]
		    networks: [loteria]
		    ports:
		      - "127.0.0.1:3000:3000"
		    environment:
		      GF_AUTH_ANONYMOUS_ENABLED: "true"
		      GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH: /var/lib/grafana/dashboards/loteria.json
		    volumes:
		      - "\${LOTERIA_ROOT:-.}/compose/observability/grafana/provisioning:/etc/grafana/provisioning:ro"
		      - "\${LOTERIA_ROOT:-.}/compose/observability/grafana/dashboards:/var/lib/grafana/dashboards:ro"

		volumes:
		  $ledger:
	EOF
	for ((i = 2; i <= servers; i++)); do
		printf '  ledger%d:\n' "$i"
	done
	cat <<-EOF

		networks:
		  loteria:
	EOF
}

# tls_file N SERVERS writes the second file to standard output.
tls_file() {
	local n=$1 servers=$2 i
	local title='Beside the compose file of one server' addresses=server:12443
	local name=server anchors='' settings='' peers=''
	if ((servers > 1)); then
		title="Beside the compose file of $servers servers" addresses='' name=server1
		anchors=' &server' settings=' &server-settings'
		peers='
      SERVER_PEER_PLAIN: "off"
      SERVER_PEER_TLS_CERT_FILE: /certs/server-1.pem
      SERVER_PEER_TLS_KEY_FILE: /certs/server-1-key.pem
      SERVER_PEER_TLS_CA_FILE: /certs/ca.pem'
		for ((i = 1; i <= servers; i++)); do
			addresses+=${addresses:+,}server$i:12443
		done
	fi
	cat <<-EOF
		# $title and $n agencies: the same draw over mutual TLS. Written by
		#
		#   ./generar-compose.sh FILE $n $servers TLS_FILE
		#
		#   docker compose -f FILE -f TLS_FILE up --build
		#
		# The certificates are for development. They and all keys are in one volume, which every
		# container reads: compose/doc.go says how to give each only its own.

		x-agency: &agency
		  volumes:
		    - certs:/certs:ro

		x-agency-settings: &agency-settings
		  AGENCY_SERVER: \${AGENCY_SERVER:-$addresses}
		  AGENCY_TLS_CA_FILE: /certs/ca.pem

		services:
		  # It ends before a server starts. Each start makes what is missing, and certificates anew for
		  # the keys that are there, so that none expires.
		  certs:
		    container_name: certs
		    image: $image
		    command: [certs, --renew, --out, /certs, --servers, "$servers", --agencies, "$n"]
		    network_mode: none
		    volumes:
		      - certs:/certs
		    restart: "no"

		  $name:$anchors
		    depends_on:
		      certs:
		        condition: service_completed_successfully
		    volumes:
		      - certs:/certs:ro
		    environment:$settings
		      SERVER_ADDR: 127.0.0.1:12345 # without TLS, for the health check only
		      SERVER_TLS_ADDR: ":12443"
		      SERVER_TLS_CERT_FILE: /certs/server-1.pem
		      SERVER_TLS_KEY_FILE: /certs/server-1-key.pem
		      SERVER_TLS_CLIENT_CA_FILE: /certs/ca.pem$peers
	EOF
	for ((i = 2; i <= servers; i++)); do
		cat <<-EOF

			  server$i:
			    <<: *server
			    environment:
			      <<: *server-settings
			      SERVER_TLS_CERT_FILE: /certs/server-$i.pem
			      SERVER_TLS_KEY_FILE: /certs/server-$i-key.pem
			      SERVER_PEER_TLS_CERT_FILE: /certs/server-$i.pem
			      SERVER_PEER_TLS_KEY_FILE: /certs/server-$i-key.pem
		EOF
	done
	for ((i = 1; i <= n; i++)); do
		cat <<-EOF

			  client$i:
			    <<: *agency
			    environment:
			      <<: *agency-settings
			      AGENCY_TLS_CERT_FILE: /certs/agency-$i.pem
			      AGENCY_TLS_KEY_FILE: /certs/agency-$i-key.pem
		EOF
	done
	cat <<-EOF

		volumes:
		  certs:
	EOF
}

# missing FIRST LAST lists the agencies from FIRST to LAST that have no file in .data/.
missing() {
	local i
	for ((i = $1; i <= $2; i++)); do
		[[ -e $data/agency-$i.csv ]] || printf '%d\n' "$i"
	done
}

# unpack DIR unpacks the dataset's zip with the first program that can, or fails.
unpack() {
	local zip=$root/testdata/dataset.zip
	if command -v unzip >/dev/null; then
		unzip -q "$zip" -d "$1"
	elif command -v bsdtar >/dev/null; then
		bsdtar -xf "$zip" -C "$1"
	elif command -v busybox >/dev/null && busybox unzip -l "$zip" >/dev/null 2>&1; then
		busybox unzip -q "$zip" -d "$1"
	else
		return 1
	fi
}

# make_bets DIR N makes a dataset of N agencies with the first program that can,
# or fails. The same N makes the same bets everywhere; five agencies have the bets
# of the zip.
make_bets() {
	if command -v loteria >/dev/null && run_dataset "$@" loteria; then
		return
	fi
	if command -v go >/dev/null && [[ -d $root/cmd/loteria ]]; then
		say "compiling loteria, to make the bets with"
		if run_dataset "$@" go run -C "$root" ./cmd/loteria; then
			return
		fi
	fi
	make_bets_in_container "$@"
}

# run_dataset DIR N PROGRAM... makes the dataset with PROGRAM. If that fails, it
# says why and fails.
run_dataset() {
	local dir=$1 n=$2
	shift 2
	if "$@" dataset --out "$dir" --agencies "$n" --force >"$dir/log" 2>&1 && [[ -e $dir/agency-$n.csv ]]; then
		return
	fi
	cat "$dir/log" >&2
	say "$1 is here, but can't make the bets: see above"
	return 1
}

# make_bets_in_container DIR N makes the dataset with the program in the image.
make_bets_in_container() {
	local dir=$1 n=$2
	command -v docker >/dev/null || return 1
	docker version >/dev/null 2>&1 || return 1
	# An older image is good enough: the same N has always made the same bets.
	if ! docker image inspect "$image" >/dev/null 2>&1; then
		say "building the image, to make the bets with"
		docker build --file "$root/compose/Dockerfile" --tag "$image" ${GOPROXY:+--build-arg "GOPROXY=$GOPROXY"} "$root" >&2 ||
			fail "the image can't be built: see above"
	fi
	# Files that are copied out belong to the user who runs this script. In a mounted
	# folder they would belong to the container's user.
	container=$(docker create "$image" dataset --out /data/bets --agencies "$n")
	if ! docker start --attach "$container" >/dev/null 2>"$dir/log" || ! docker cp "$container:/data/bets/." "$dir" >/dev/null; then
		cat "$dir/log" >&2
		fail "the bets can't be made: see above"
	fi
	docker rm "$container" >/dev/null
	container=''
}

# clean_up removes unfinished files and the container.
clean_up() {
	[[ -z $fresh ]] || rm -rf -- "$fresh"
	[[ -z $written ]] || rm -f -- "$written"
	[[ -z $container ]] || docker rm --force "$container" >/dev/null
}

# provide N puts the bets of N agencies into .data/. Files that are already there
# stay as they are.
provide() {
	local n=$1 i of_dataset rest
	of_dataset=$(missing 1 "$((n < dataset_agencies ? n : dataset_agencies))")
	rest=$(missing "$((dataset_agencies + 1))" "$n")
	[[ -n $of_dataset$rest ]] || return 0

	# If .data/ is missing when Docker mounts it, Docker makes it as root. The
	# checkout's owner may remove it while it is empty.
	[[ ! -d $data || -w $data ]] || rmdir -- "$data" 2>/dev/null || true
	# All users may read it, whatever the umask: agencies run as another user.
	[[ -d $data ]] || { mkdir -p "$data" && chmod a+rx "$data"; } || true
	if [[ ! -d $data || ! -w $data ]]; then
		fail "$data can't be written: take it over or remove it, then run this again"
	fi
	fresh=$(mktemp -d "$data/new.XXXXXX")
	if [[ -n $of_dataset ]]; then
		unpack "$fresh" || make_bets "$fresh" "$dataset_agencies" ||
			fail "nothing here can unpack testdata/dataset.zip: install unzip or Go, or start Docker"
		keep "$of_dataset"
	fi
	if [[ -n $rest ]]; then
		make_bets "$fresh" "$n" ||
			fail "no bets for agency $(printf '%s' "$rest" | tr '\n' ' '): the dataset has $dataset_agencies agencies, and nothing here can make the rest: install Go, start Docker, or put agency-<id>.csv into .data/"
		keep "$rest"
	fi
}

# keep IDS moves the new files of these agencies into .data/.
keep() {
	local i
	for i in $1; do
		mv -- "$fresh/agency-$i.csv" "$data/"
		chmod a+r "$data/agency-$i.csv"
	done
}

# folder_of FILE prints the folder of a file that can be written, or fails.
folder_of() {
	[[ -n $1 && $1 != -* ]] || bad_arguments "'$1' is not the name of a file"
	[[ ! -d $1 ]] || bad_arguments "$1 is a folder"
	cd -- "$(dirname -- "$1")" 2>/dev/null && pwd || bad_arguments "the folder of $1 doesn't exist"
}

# publish FILE COMMAND... writes what the command prints to FILE, which appears complete or
# not at all.
publish() {
	local file=$1
	shift
	written=$(mktemp "$(dirname -- "$file")/.generar-compose.XXXXXX") || fail "the folder of $file can't be written"
	"$@" >"$written"
	chmod 644 "$written"
	mv -f -- "$written" "$file"
	written=''
}

(($# >= 1 && $# <= 4)) || bad_arguments "one to four arguments are wanted, not $#"
file=$1
n=${2:-$agencies_default}
servers=${3:-1}
tls=${4-}
folder=$(folder_of "$file")
if [[ ! $n =~ ^[1-9][0-9]{0,3}$ ]] || ((n > agencies_max)); then
	bad_arguments "'$n' is not a number of agencies: want 1 to $agencies_max"
fi
if [[ $servers != 1 && ! $servers =~ ^[$servers_min-$servers_max]$ ]]; then
	bad_arguments "'$servers' is not a number of servers: want 1, or $servers_min to $servers_max"
fi
if (($# == 4)); then
	tls_folder=$(folder_of "$tls")
	[[ $tls_folder/${tls##*/} != "$folder/${file##*/}" ]] || bad_arguments "FILE and TLS_FILE are the same file"
fi

fresh=''
written=''
container=''
trap clean_up EXIT
provide "$n"

publish "$file" compose_file "$n" "$servers"
if [[ -n $tls ]]; then
	publish "$tls" tls_file "$n" "$servers"
fi
say "$file: $servers server$( ((servers == 1)) || printf s) and $n agencies. Start them: docker compose -f $file${tls:+ -f $tls} up --build"
if [[ $folder != "$root" && $folder != "$root/compose" ]]; then
	say "It is not in the checkout's root: set LOTERIA_ROOT=$root for docker compose."
fi
