package dataset_test

import (
	"context"
	"fmt"
	"io"
	"strings"

	"loteria/agency/dataset"
)

func ExampleSpec_WriteAgency() {
	spec, err := dataset.Sized(1, 3)
	if err != nil {
		panic(err)
	}
	var file strings.Builder
	if err := spec.WriteAgency(context.Background(), &file, 1); err != nil {
		panic(err)
	}
	fmt.Print(strings.ReplaceAll(file.String(), "\r\n", "\n"))
	// Output:
	// Federico,Sánchez,42225664,1999-07-03,7389
	// Sofía,Acuña,40339539,1996-09-06,7574
	// Miguel,Suárez Ramírez,24251713,1972-11-15,9855
}

func ExampleOpen() {
	bets, name, err := dataset.Open("../../testdata/dataset.zip", 5)
	if err != nil {
		panic(err)
	}
	defer bets.Close()
	n, err := io.Copy(io.Discard, bets)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s has %d bytes\n", name, n)
	// Output:
	// ../../testdata/dataset.zip:agency-5.csv has 44187 bytes
}
