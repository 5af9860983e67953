package load

import (
	"bytes"
	"fmt"
	"io"
	"net"

	"loteria/codec"
)

// exchange sends one frame and reads one answer.
func exchange(conn net.Conn, frame []byte) (codec.Reply, error) {
	if _, err := conn.Write(frame); err != nil {
		return codec.Reply{}, err
	}
	return readReply(conn)
}

func readReply(conn io.Reader) (codec.Reply, error) { return readReplyAfter(nil, conn) }

// readReplyAfter reads one answer. begun is the part of it that has come already.
func readReplyAfter(begun []byte, conn io.Reader) (codec.Reply, error) {
	in := begun
	for {
		if reply, ok, err := wholeReply(in); ok || err != nil {
			return reply, err
		}
		if len(in) == cap(in) {
			in = append(make([]byte, 0, max(2*cap(in), 64)), in...)
		}
		n, err := conn.Read(in[len(in):cap(in)])
		in = in[:len(in)+n]
		if err != nil && n == 0 {
			return codec.Reply{}, err
		}
	}
}

// wholeReply parses in as one answer. ok is false while the answer is incomplete.
func wholeReply(in []byte) (reply codec.Reply, ok bool, err error) {
	payload, rest, ok, err := codec.SplitFrame(in, codec.ReplyBytesMaxDefault)
	if err != nil || !ok {
		return codec.Reply{}, false, err
	}
	if len(rest) > 0 {
		return codec.Reply{}, false, moreThanOneAnswer(in)
	}
	reply, err = codec.ParseReply(payload)
	return reply, err == nil, err
}

func moreThanOneAnswer(in []byte) error {
	return fmt.Errorf("%w: more than one answer: %.80q", ErrServer, in)
}

// describe says in words what the answer was, for error messages.
func describe(r codec.Reply) string {
	switch r.Kind {
	case codec.ReplyAck:
		return "it answered ACK"
	case codec.ReplyWelcome:
		return "it answered WELCOME"
	case codec.ReplyError:
		if r.Detail != "" {
			return "it answered " + r.Code.String() + "|" + r.Detail
		}
		return "it answered " + r.Code.String()
	}
	return fmt.Sprintf("it answered %.80q", r.Winners)
}

// checkWinners compares an agency's winners with the lines that it expects.
func checkWinners(id codec.Agency, reply codec.Reply, want []byte) (count int, err error) {
	if reply.Kind != codec.ReplyWinners {
		return 0, fmt.Errorf("%w: winners of agency %d: %s", ErrServer, id, describe(reply))
	}
	if !bytes.Equal(reply.Winners, want) {
		return 0, fmt.Errorf("%w: agency %d got %d lines, want %d: is the server's winning number %d, and its scope the agency?",
			ErrWinners, id, codec.Lines(reply.Winners), codec.Lines(want), WinningNumber)
	}
	return codec.Lines(want), nil
}
