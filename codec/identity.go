package codec

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// TLSProtocol is what both sides of a TLS connection have to negotiate (ALPN). A client or a server
// that means another one doesn't get past that.
const TLSProtocol = "loteria/1"

// IdentityKind is what somebody with an identity is in a lottery.
type IdentityKind string

// The kinds of an identity, as they stand in its URI.
const (
	IdentityServer IdentityKind = "server"
	IdentityAgency IdentityKind = "agency"
)

// ErrIdentity says that a certificate's URIs are no identity. What wraps it says what they should be.
var ErrIdentity = errors.New("no identity in the certificate")

// Identity is who a certificate says that its owner is: its SPIFFE ID, spiffe://DOMAIN/KIND/ID.
// Nothing else in a certificate says who somebody is.
type Identity struct {
	Domain string // whose servers and agencies these are; it is compared byte by byte
	Kind   IdentityKind
	ID     uint64 // at least 1; an agency's is an [Agency]
}

// ParseIdentity reads the URIs of a certificate, which have to be exactly one identity. Each
// identity has one spelling. Errors wrap ErrIdentity.
func ParseIdentity(uris []*url.URL) (Identity, error) {
	const want = "want one, spiffe://DOMAIN/server/ID or spiffe://DOMAIN/agency/ID"
	if len(uris) != 1 {
		return Identity{}, fmt.Errorf("%w: it has %d URIs: %s", ErrIdentity, len(uris), want)
	}
	uri := uris[0]
	kind, digits, _ := strings.Cut(strings.TrimPrefix(uri.Path, "/"), "/")
	id, err := strconv.ParseUint(digits, 10, 64)
	i := Identity{Domain: uri.Host, Kind: IdentityKind(kind), ID: id}
	legal := i.Kind == IdentityServer
	if i.Kind == IdentityAgency {
		_, legal = ParseAgency([]byte(digits))
	}
	if err != nil || !legal || i.Domain == "" || i.ID == 0 || *uri != *i.URI() {
		return Identity{}, fmt.Errorf("%w: it is for %.256q: %s", ErrIdentity, uri, want)
	}
	return i, nil
}

// URI is the identity as a certificate has it.
func (i Identity) URI() *url.URL {
	path := "/" + string(i.Kind) + "/" + strconv.FormatUint(i.ID, 10)
	return &url.URL{Scheme: "spiffe", Host: i.Domain, Path: path}
}

// String returns the URI's text.
func (i Identity) String() string { return i.URI().String() }
