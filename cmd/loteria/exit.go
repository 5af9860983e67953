package main

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"loteria/agency"
	"loteria/engine"
	"loteria/engine/history"
	"loteria/engine/ledger"
)

// exitCode is the process's exit code for an error of any subcommand.
func exitCode(err error) int {
	is := func(target error) bool { return errors.Is(err, target) }
	_, rejected := errors.AsType[*agency.RejectedError](err)
	child, isChild := errors.AsType[*childError](err)
	switch {
	case err == nil, is(context.Canceled):
		return exitDone
	case isChild && child.code > exitDone:
		return child.code
	case isChild:
		return exitUnfinished
	case is(engine.ErrStorage), is(history.ErrDamaged), is(ledger.ErrCorrupt), is(ledger.ErrFailed),
		is(errCertsWrite):
		return exitStorage
	case is(engine.ErrUnfinished), is(engine.ErrEngine), is(agency.ErrUnreachable), is(errNoBoard):
		return exitUnfinished
	case rejected, is(agency.ErrLostBets), is(agency.ErrOtherBets), is(agency.ErrNotAsked), is(agency.ErrSpeaksTLS),
		is(agency.ErrProtocol), is(agency.ErrReplyTooLarge), is(agency.ErrFrameBytes):
		return exitRejected
	}
	return exitInput
}

// loggedError is an error that a log line has already reported.
type loggedError struct{ error }

func (e *loggedError) Unwrap() error { return e.error }

func reported(err error) bool {
	_, logged := errors.AsType[*loggedError](err)
	return logged
}

// logExit writes a command's last log line. The error that it returns is not printed again.
func logExit(log *zap.Logger, err error) error {
	code := exitCode(err)
	if code == exitDone {
		log.Info("exit", zap.String("result", "success"), zap.Int("codigo", code))
		return nil
	}
	log.Error("exit", zap.String("result", "fail"), zap.Int("codigo", code), zap.Error(err))
	return &loggedError{err}
}
