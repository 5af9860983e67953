package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"loteria/agency/load"
	"loteria/engine"
)

// yardstickCommand is the name of the hidden command that runs the yardstick.
const yardstickCommand = "bench-yardstick"

func newYardstickCommand() *cobra.Command {
	var (
		y      load.Yardstick
		dir    string
		sync   bool
		copies []string
		isCopy bool
	)
	cmd := &cobra.Command{
		Use:    yardstickCommand,
		Short:  "The yardstick of `loteria bench --limit`: prints its address, then what it wrote",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			var lc net.ListenConfig
			l, err := lc.Listen(cmd.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), l.Addr()); err != nil {
				return errors.Join(err, l.Close())
			}
			log, err := newBenchLog(dir, sync)
			if err != nil {
				return errors.Join(err, l.Close())
			}
			defer func() { err = errors.Join(err, log.Remove()) }()
			if isCopy {
				return load.ServeCopy(cmd.Context(), l, log)
			}
			y.Log = log
			if len(copies) > 0 {
				conns, err := dialCopies(cmd.Context(), copies)
				if err != nil {
					return errors.Join(err, l.Close())
				}
				ctx, cancel := context.WithCancel(cmd.Context())
				defer cancel()
				all := load.NewCopies(ctx, log, conns)
				defer func() {
					if err != nil {
						cancel()
					}
					err = errors.Join(err, all.Close())
				}()
				y.Log = all
			}
			groups, err := y.Serve(cmd.Context(), l)
			if err != nil {
				return err
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(groups)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&dir, "dir", "", "folder for its file")
	flags.IntVar(&y.Connections, "connections", 1, "connections to serve before it ends")
	flags.BoolVar(&sync, "sync", true, "an ACK waits for the disk")
	flags.IntVar(&y.GroupBytes, "group-bytes", load.GroupBytesDefault, "size of a group, in bytes")
	flags.StringSliceVar(&copies, "copies", nil, "addresses of yardsticks that keep copies")
	flags.BoolVar(&isCopy, "copy", false, "keep a copy of what another yardstick sends")
	return cmd
}

// dialCopies connects to the yardsticks that keep copies.
func dialCopies(ctx context.Context, addrs []string) (conns []net.Conn, err error) {
	for _, addr := range addrs {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			for _, c := range conns {
				err = errors.Join(err, c.Close())
			}
			return nil, err
		}
		conns = append(conns, conn)
	}
	return conns, nil
}

// yardstick is a yardstick in a process of its own.
type yardstick struct {
	cmd   *exec.Cmd
	addr  string
	lines *bufio.Reader // its standard output, behind the address
	said  bytes.Buffer  // its standard error
}

// startYardstick starts a yardstick on a new directory, and returns when it listens.
func (b *bench) startYardstick(ctx context.Context, dir string, args ...string) (*yardstick, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	cmd, err := selfCommand(ctx, append([]string{yardstickCommand, "--dir", dir,
		"--sync=" + strconv.FormatBool(b.options.durability == engine.DurabilityFsync)}, args...)...)
	if err != nil {
		return nil, err
	}
	y := &yardstick{cmd: cmd}
	cmd.Stderr = &y.said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := startChild(cmd); err != nil {
		return nil, err
	}
	y.lines = bufio.NewReader(out)
	addr, err := y.lines.ReadString('\n')
	if err != nil {
		return nil, errors.Join(err, y.end(err))
	}
	y.addr = strings.TrimSpace(addr)
	return y, nil
}

// end waits for the yardstick's end. It kills a yardstick whose load has failed.
func (y *yardstick) end(failed error) error {
	if failed != nil {
		_ = y.cmd.Process.Kill() // fails only if the process has ended
	}
	err := y.cmd.Wait()
	if failed == nil && err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(y.said.String()))
	}
	return nil
}

// measureLimit runs the load against the yardstick, with groups as large as the server's mean, and
// as many copies as there are servers.
func (b *bench) measureLimit(ctx context.Context, groups *load.Groups) (result load.Result, err error) {
	o := b.options.load
	o.Waiting = 0
	meter := b.show.begin(o)
	dir, err := os.MkdirTemp(b.options.dir, "loteria-bench-")
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	groupBytes := load.GroupBytesDefault
	if groups != nil {
		groupBytes = int(math.Ceil(groups.Mean))
	}
	var copies []string
	target := load.Target{Bare: true}
	for n := 1; n < b.options.servers; n++ {
		y, err := b.startYardstick(ctx, filepath.Join(dir, strconv.Itoa(n)), "--copy")
		if err != nil {
			return result, err
		}
		defer func() { err = errors.Join(err, y.end(err)) }()
		copies = append(copies, y.addr)
		target.PIDs = append(target.PIDs, y.cmd.Process.Pid)
	}
	y, err := b.startYardstick(ctx, filepath.Join(dir, "0"),
		"--connections", strconv.Itoa(o.Agencies),
		"--group-bytes", strconv.Itoa(groupBytes),
		"--copies", strings.Join(copies, ","))
	if err != nil {
		return result, err
	}
	target.Addr, target.PIDs = y.addr, append(target.PIDs, y.cmd.Process.Pid)
	result, err = load.Run(ctx, o, target, meter)
	if err == nil {
		result.Groups = new(load.Groups)
		err = json.NewDecoder(y.lines).Decode(result.Groups)
	}
	return result, errors.Join(err, y.end(err))
}
