// Package compose holds how Lotería runs in containers: the Dockerfile of the
// one image that is server and agency, the compose file for five agencies, and
// .env with every setting at its default. It has no Go code of its own, only
// the tests that hold all of this together.
//
// ../generar-compose.sh writes compose files for other numbers of agencies, and
// makes the bets that the dataset lacks. docker-compose-dev.yaml is exactly what
// it writes for five. Change the script, then run, in the checkout's root:
//
//	./generar-compose.sh compose/docker-compose-dev.yaml 5
//
// A new variable's lines here and in the script come from the program:
//
//	go test ./cmd/loteria -run Places -update
//
// # One draw
//
//	docker compose -f compose/docker-compose-dev.yaml up --build
//
// starts server and client1 to client5 on a network of their own, and returns
// when all of them have ended. Container names are fixed, so a machine runs one
// of these at a time.
//
//   - Agencies read their bets from .data/agency-<id>.csv, or if that isn't
//     there from testdata/dataset.zip. Both are mounted read-only.
//   - The ledger, bets.csv and winners.csv are in the volume ledger, in a folder
//     for each number of agencies: after the file was written for another number,
//     it is another draw.
//   - Only the server has a health check, the binary's own (loteria health).
//     Agencies wait for it, but they would find a server that comes later, too.
//     A server that can't start keeps them from being started at all.
//   - Nothing restarts by itself: a container that ended has done its work, or
//     its last log line says what to change. `up` goes on with the draw.
//
// The files keep to what both Compose v2 and docker-compose 1.29 read, and the
// Dockerfile to what a builder without BuildKit does.
//
// # Secrets
//
// A second compose file (-f compose/docker-compose-dev.yaml -f secrets.yaml) mounts
// the server's file and one for each agency, all readable by user 65532; then set
// SERVER_AGENCY_SECRETS_FILE=/secrets and AGENCY_SECRET_FILE=/secret.
//
//	services:
//	  server: {volumes: ["/etc/loteria/secrets:/secrets:ro"]}
//	  client1: {volumes: ["/etc/loteria/agency-1.secret:/secret:ro"]}
//
// # Tests
//
// Those of the script need bash; some also need unzip or Go, and are skipped
// without. Those of the draw need Docker, the container names above, and a few
// minutes; they run if LOTERIA_COMPOSE=1 or CI=true is set, and then a missing
// Docker is a failure:
//
//	LOTERIA_COMPOSE=1 go test -v ./compose
package compose
