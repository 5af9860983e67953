package agency_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"loteria/agency"
	"loteria/codec"
)

func Example() {
	addr, stop := exampleServer()
	defer stop()
	ctx := context.Background()

	client, err := agency.Dial(ctx, addr, 1)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	bets := strings.NewReader("Juan,Pérez,12345678,1990-05-23,7574\r\nMaría,Gómez,87654321,1985-07-10,2311\r\n")
	progress, err := client.Upload(ctx, "agency-1.csv", bets)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("stored:", progress.Stored)

	winners, err := client.Winners(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for bet := range winners.Bets() {
		fmt.Printf("%s %s, %s\n", bet.FirstName, bet.LastName, bet.Document)
	}
	if err := client.Confirm(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// stored: 2
	// Juan Pérez, 12345678
}

// A row that can't be a bet stops the upload. The error names the row.
func ExampleClient_Upload_badRow() {
	addr, stop := exampleServer()
	defer stop()
	ctx := context.Background()

	client, err := agency.Dial(ctx, addr, 1, agency.WithBatchBets(100), agency.WithWindow(8))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	bets := strings.NewReader("Juan,Pérez,12345678,1990-05-23,7574\nMaría,Gómez,87654321,1985-02-30,2311\n")
	_, err = client.Upload(ctx, "agency-1.csv", bets)
	var row *agency.RowError
	if errors.As(err, &row) {
		fmt.Println(row)
	}
	// Output:
	// agency-1.csv, line 2: birthdate: 1985-02-30 is not a day
}

// The client logs to the program's logger. With adds the agency to each line.
func ExampleWithLogger() {
	addr, stop := exampleServer()
	defer stop()
	ctx := context.Background()

	timeless := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: timeless}))
	client, err := agency.Dial(ctx, addr, 1, agency.WithLogger(logger.With("agencia", 1)))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	bets := strings.NewReader("Juan,Pérez,12345678,1990-05-23,7574\nMaría,Gómez,87654321,1985-07-10,2311\n")
	if _, err := client.Upload(ctx, "agency-1.csv", bets); err != nil {
		log.Fatal(err)
	}
	if _, err := client.Winners(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// level=INFO msg=apuesta_enviada agencia=1 result=success cantidad=2
	// level=INFO msg=consulta_ganadores agencia=1 result=success cant_ganadores=1
}

// The certificates are those that `loteria certs` makes for development. What is wrong with the server's
// certificate, or with this agency's for the server, is tried again for a while; the error says what it
// was.
func ExampleWithTLS() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := agency.Dial(ctx, "lottery.example:12346", 1, agency.WithTLS(agency.TLS{
		CAFile:   "certs/ca.pem",
		CertFile: "certs/agency-1.pem",
		KeyFile:  "certs/agency-1-key.pem",
	}))
	switch {
	case errors.Is(err, agency.ErrCredentials), errors.Is(err, agency.ErrCertificateRefused):
		fmt.Println("look at certs/agency-1.pem:", err)
	case errors.Is(err, agency.ErrServerCertificate), errors.Is(err, agency.ErrNoTLS):
		fmt.Println("ask those who run the server:", err)
	case err != nil:
		fmt.Println(err)
	default:
		defer client.Close()
	}
	// Output:
	// look at certs/agency-1.pem: the agency's TLS files can't be used: the authorities: open certs/ca.pem: no such file or directory
}

// A Session needs no sockets and no clock.
func ExampleSession() {
	s := agency.NewSession(1, 32)
	s.Connect()
	fmt.Printf("%q\n", s.Send(nil))
	if _, err := s.Receive([]byte("WELCOME|1|64|65536|fa89edbb")); err != nil {
		log.Fatal(err)
	}
	err := s.Push(&agency.Batch{
		Lines: []byte("Juan|Pérez|12345678|1990-05-23|7574|1\nMaría|Gómez|87654321|1985-07-10|2311|1\n"),
		Rows:  []int{1, 2},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%q\n", s.Send(nil)) // without the first bet, which is stored already
	event, err := s.Receive([]byte("ACK"))
	fmt.Println(event.Kind == agency.EventAcked, s.Stored(), err)
	// Output:
	// "7\nHELLO|1"
	// "40\nMaría|Gómez|87654321|1985-07-10|2311|1"
	// true 2 <nil>
}

// exampleServer serves one agency, the only one in the draw.
func exampleServer() (addr string, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		defer conn.Close()
		var stored int64
		var sum codec.Checksum
		var winners []byte
		rules := codec.Rules{Today: 20261123, WinningNumber: 7574}
		for in := bufio.NewReader(conn); ; {
			var n int
			if _, err := fmt.Fscanf(in, "%d\n", &n); err != nil {
				return
			}
			payload := make([]byte, n)
			if _, err := io.ReadFull(in, payload); err != nil {
				return
			}
			var request codec.Request
			request, winners, err = codec.ParseRequest(payload, rules, winners)
			var reply []byte
			switch {
			case err != nil:
				reply = codec.AppendFrame(nil, []byte(err.Error()))
			case request.Kind == codec.RequestHello:
				reply = codec.AppendWelcome(nil, codec.Welcome{Stored: stored, Window: 64, FrameBytesMax: codec.FrameBytesMaxDefault, Checksum: sum})
			case request.Kind == codec.RequestBets:
				stored += int64(request.Batch.Count)
				sum = sum.Add(payload)
				reply = codec.AppendAck(nil)
			case request.Kind == codec.RequestReceived:
				reply = codec.AppendAck(nil)
			default:
				reply = codec.AppendFrame(nil, winners[:max(0, len(winners)-1)])
			}
			if _, err := conn.Write(reply); err != nil {
				return
			}
		}
	}()
	return l.Addr().String(), func() {
		if err := l.Close(); err != nil {
			log.Fatal(err)
		}
		<-done
	}
}
