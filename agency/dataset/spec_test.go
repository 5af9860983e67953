package dataset_test

import (
	"errors"
	"math"
	"reflect"
	"testing"

	"loteria/agency/dataset"
)

func TestDefaultIsTheBundledShape(t *testing.T) {
	spec := dataset.Default()
	want := []dataset.Share{{26_936, 2}, {25_518, 3}, {16_014, 3}, {9_238, 2}, {991, 0}}
	if !reflect.DeepEqual(spec.Agencies, want) {
		t.Errorf("agencies: %v, want %v", spec.Agencies, want)
	}
	if total := spec.Totals(); total != (dataset.Share{Bets: 78_697, Winners: 10}) {
		t.Errorf("totals: %+v", total)
	}
	if spec.WinningNumber != 7574 {
		t.Errorf("winning number: %d", spec.WinningNumber)
	}

	spec.Agencies[0].Bets = 0
	if dataset.Default().Agencies[0].Bets == 0 {
		t.Error("a caller's change reached the default")
	}
}

func TestSizedAtTheDefaultsSizeIsTheDefault(t *testing.T) {
	spec, err := dataset.Sized(5, 78_697)
	if err != nil {
		t.Fatal(err)
	}
	if want := dataset.Default(); !reflect.DeepEqual(spec, want) {
		t.Errorf("got %+v, want %+v", spec, want)
	}
}

func TestSized(t *testing.T) {
	for _, size := range []struct{ agencies, bets int }{
		{1, 0}, {1, 1}, {1, 100_000_000}, {2, 1}, {3, 7}, {5, 0}, {5, 4}, {5, 78_696}, {5, 78_698},
		{6, 1_000}, {40, 12_345}, {50, 10_000_000}, {999, 1_000}, {5_000, 100_000_000},
		{100_000, 99}, {100_000, 100_000_000},
	} {
		spec, err := dataset.Sized(size.agencies, size.bets)
		if err != nil {
			t.Errorf("%+v: %v", size, err)
			continue
		}
		if err := spec.Validate(); err != nil {
			t.Errorf("%+v: %v", size, err)
		}
		if len(spec.Agencies) != size.agencies || spec.Totals().Bets != size.bets {
			t.Errorf("%+v: got %d agencies and %d bets", size, len(spec.Agencies), spec.Totals().Bets)
		}
		pattern := dataset.Default()
		patternBets := 0
		for i := range spec.Agencies {
			patternBets += pattern.Agencies[i%5].Bets
		}
		for i, share := range spec.Agencies {
			exact := float64(size.bets) * float64(pattern.Agencies[i%5].Bets) / float64(patternBets)
			if math.Abs(float64(share.Bets)-exact) >= 1 {
				t.Errorf("%+v: agency %d has %d bets, its proportion is %.2f", size, i+1, share.Bets, exact)
			}
			if wins := share.Winners > 0; wins != (share.Bets > 0 && i%5 != 4) {
				t.Errorf("%+v: agency %d has %d winners in %d bets", size, i+1, share.Winners, share.Bets)
			}
		}
	}
}

func TestSizedRefuses(t *testing.T) {
	for _, size := range []struct{ agencies, bets int }{
		{0, 10}, {-1, 10}, {100_001, 10}, {5, -1}, {5, 100_000_001}, {math.MaxInt, math.MaxInt},
	} {
		if _, err := dataset.Sized(size.agencies, size.bets); !errors.Is(err, dataset.ErrInvalidSpec) {
			t.Errorf("%+v: error %v", size, err)
		}
	}
}

func TestValidate(t *testing.T) {
	tests := map[string]func(*dataset.Spec){
		"no agencies":          func(s *dataset.Spec) { s.Agencies = nil },
		"too many agencies":    func(s *dataset.Spec) { s.Agencies = make([]dataset.Share, dataset.AgenciesMax+1) },
		"negative number":      func(s *dataset.Spec) { s.WinningNumber = -1 },
		"number nobody plays":  func(s *dataset.Spec) { s.WinningNumber = 10_000 },
		"negative bets":        func(s *dataset.Spec) { s.Agencies[4].Bets = -1 },
		"too many bets":        func(s *dataset.Spec) { s.Agencies[4].Bets = dataset.BetsMax + 1 },
		"too many bets in all": func(s *dataset.Spec) { s.Agencies[4].Bets = dataset.BetsMax - 1 },
		"negative winners":     func(s *dataset.Spec) { s.Agencies[4].Winners = -1 },
		"more winners than bets": func(s *dataset.Spec) {
			s.Agencies[4].Winners = s.Agencies[4].Bets + 1
		},
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			spec := dataset.Default()
			if err := spec.Validate(); err != nil {
				t.Fatalf("the default: %v", err)
			}
			spoil(&spec)
			if err := spec.Validate(); !errors.Is(err, dataset.ErrInvalidSpec) {
				t.Errorf("error %v, want %v", err, dataset.ErrInvalidSpec)
			}
		})
	}
}
