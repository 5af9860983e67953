package admin

import "github.com/prometheus/client_golang/prometheus"

type metrics struct{ commit, ack prometheus.Histogram }
