// Package compose has the files that run Lotería in containers: the Dockerfile of the image for
// server and agencies, the compose file for five agencies, and .env with every setting at its
// default. Its only Go code are the tests of these files.
//
// ../generar-compose.sh writes compose files for other numbers of agencies or for several servers,
// and makes the bets that the dataset lacks. docker-compose-dev.yaml and tls.yaml are exactly what it
// writes for five agencies. After a change of the script run, in the checkout's root:
//
//	./generar-compose.sh compose/docker-compose-dev.yaml 5 1 compose/tls.yaml
//
// The program writes the lines of a new variable, here and in the script:
//
//	go test ./cmd/loteria -run Places -update
//
// # One draw
//
//	docker compose -f compose/docker-compose-dev.yaml up --build
//
// starts server and client1 to client5 on a network of their own, and returns when all of them have
// ended. Container names are fixed, so a machine can run only one draw at a time.
//
//   - Agencies read their bets from .data/agency-<id>.csv, or without that file from
//     testdata/dataset.zip. Both are mounted read-only.
//   - The ledger, bets.csv and winners.csv are in the volume ledger, in a folder for each number of
//     agencies: another number of agencies is another draw.
//   - Only the server has a health check, the binary's own (loteria health). Agencies wait until it
//     succeeds, although they would also find a server that starts later. If the server can't
//     start, the agencies are not started.
//   - Nothing restarts by itself: a container that has ended has done its work, or its last log
//     line says what to change. `up` goes on with the draw.
//
// Both Compose v2 and docker-compose 1.29 can read the files, and a builder without BuildKit can
// build the Dockerfile.
//
// # Several servers
//
//	./generar-compose.sh docker-compose-dev.yaml 5 3
//
// makes server1 to server3, which hold one draw together. Each has a volume of its own, ledger1 to
// ledger3, with a folder for each number of servers and of agencies: servers must not take over the
// ledgers of fewer or more of them.
//
//   - The draw goes on without one of three servers, two of five, or four of nine. Agencies have all
//     addresses in AGENCY_SERVER, and wait for none of them to be healthy. The name server stands
//     for all servers, for agencies that take only one address.
//   - Servers talk to each other on port 12346, without TLS (SERVER_PEER_PLAIN=on), so that a draw
//     needs no preparation. No port of the network is published. But whoever starts a container in
//     it can be a server, and read every bet. With a second file for TLS, see below, nobody can.
//   - They listen there on all addresses (SERVER_PEER_ADDR): a container that loses its network and
//     gets it back may have another one.
//   - A server that was killed misses the end. Started alone it waits for the others, whatever they
//     have agreed on without it. `up` starts all of them, also after the end.
//
// # Watching
//
// Servers show the draw on port 8080 of the file's network, which no other machine reaches. The profile
// board publishes that, to this machine only, on port 8080 or BOARD_PORT. A port can't depend on a
// profile, so its service passes connections on: `loteria board --servers`. With several servers it turns
// to the next one when the one that it has goes. When they end, it ends; also when the only server is
// restarted. With an empty SERVER_HTTP_ADDR no server shows anything.
//
//	docker compose -f compose/docker-compose-dev.yaml --profile board up --build
//
// The profile observability adds Prometheus and Grafana, with the alerts and the dashboard in the
// folder of that name. COMPOSE_PROFILES=board,observability starts both. `down` removes a profile's
// containers only if it is told the profile, too.
//
// # TLS
//
// tls.yaml is a second file, too. With it the server and the five agencies use mutual TLS:
//
//	docker compose -f compose/docker-compose-dev.yaml -f compose/tls.yaml up --build
//
// It is what the script writes as its fourth argument, TLS_FILE. For several servers that also gives
// the servers certificates for each other:
//
//	./generar-compose.sh docker-compose-dev.yaml 5 3 docker-compose-tls.yaml
//
// With it there are certificates before the first server starts:
//
//   - The service certs runs `loteria certs` and ends; servers wait for that. The volume certs keeps
//     the authority and the keys. Every start makes certificates anew, which a server that runs takes
//     without dropping anyone: `run --rm certs` renews them in the middle of a draw.
//   - The image has a folder /certs, so that the volume belongs to user 65532: a key is readable by
//     its owner only.
//   - docker-compose 1.29 wants the image to be there before the service certs: run its `build`
//     first.
//   - A server listens for agencies on port 12443. Its port without TLS is for its health check, and
//     other containers can't reach it.
//
// Every container can read all keys, and the authority's. A third file mounts certificates of one's own
// over that: the authority's, and each service's with its key, all readable by user 65532. certs then
// makes some that nobody uses.
//
//	services:
//	  server: {volumes: ["/etc/loteria/server:/certs:ro"]} # ca.pem, server-1.pem and server-1-key.pem
//	  client1: {volumes: ["/etc/loteria/agency-1:/certs:ro"]} # ca.pem, agency-1.pem and agency-1-key.pem
//
// # Secrets
//
// A second compose file (-f compose/docker-compose-dev.yaml -f secrets.yaml) mounts the server's
// file and one for each agency, all readable by user 65532. Then set
// SERVER_AGENCY_SECRETS_FILE=/secrets and AGENCY_SECRET_FILE=/secret.
//
//	services:
//	  server: {volumes: ["/etc/loteria/secrets:/secrets:ro"]}
//	  client1: {volumes: ["/etc/loteria/agency-1.secret:/secret:ro"]}
//
// # Tests
//
// The tests of the script need bash. Some also need unzip or Go, and are skipped without it. The
// tests of the draw need Docker, the container names above, and a few minutes. They run if
// LOTERIA_COMPOSE=1 or CI=true is set; then a missing Docker is a failure:
//
//	LOTERIA_COMPOSE=1 go test -v ./compose
package compose
