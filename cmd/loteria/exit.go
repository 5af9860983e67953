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
	var (
		rejected *agency.RejectedError
		logged   *loggedError
		child    *childError
	)
	if errors.As(err, &logged) {
		err = logged.error
	}
	switch {
	case err == nil || errors.Is(err, context.Canceled):
		return exitDone
	case errors.As(err, &child):
		if child.code > exitDone {
			return child.code
		}
		return exitUnfinished
	case errors.Is(err, engine.ErrStorage), errors.Is(err, history.ErrDamaged),
		errors.Is(err, ledger.ErrCorrupt), errors.Is(err, ledger.ErrFailed),
		errors.Is(err, errCertsWrite):
		return exitStorage
	case errors.Is(err, engine.ErrUnfinished), errors.Is(err, engine.ErrEngine),
		errors.Is(err, agency.ErrUnreachable):
		return exitUnfinished
	case errors.As(err, &rejected), errors.Is(err, agency.ErrLostBets),
		errors.Is(err, agency.ErrOtherBets), errors.Is(err, agency.ErrNotAsked),
		errors.Is(err, agency.ErrProtocol), errors.Is(err, agency.ErrReplyTooLarge),
		errors.Is(err, agency.ErrFrameBytes):
		return exitRejected
	default:
		return exitInput
	}
}

// loggedError is an error that a log line has already reported.
type loggedError struct{ error }

func (e *loggedError) Unwrap() error { return e.error }

func reported(err error) bool {
	var logged *loggedError
	return errors.As(err, &logged)
}

// logExit writes a command's last log line. The error that it returns is not printed again.
func logExit(log *zap.Logger, err error) error {
	code := exitCode(err)
	switch {
	case err == nil || errors.Is(err, context.Canceled):
		log.Info("exit", zap.String("result", "success"), zap.Int("codigo", code))
		return nil
	default:
		log.Error("exit", zap.String("result", "fail"), zap.Int("codigo", code), zap.Error(err))
		return &loggedError{err}
	}
}
