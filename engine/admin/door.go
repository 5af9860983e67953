package admin

type door struct{}
type stream struct{}
