// Package replica is one server's share in a draw that several servers hold together.
package replica
