package ledger

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	entries   prometheus.Counter
	conflicts prometheus.Counter
	commits   prometheus.Histogram
	failures  prometheus.Counter
	stale     prometheus.Counter
}

func newMetrics(r prometheus.Registerer, lag, halted func() float64) metrics {
	f := promauto.With(r)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "cairn_ledger_lag_records",
		Help: "Records between the heads of the logs of the shards that are settled here and what the ledger has settled.",
	}, lag)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "cairn_ledger_halted_shards",
		Help: "Shards that are not settled any more until an operator has looked.",
	}, halted)
	return metrics{
		entries: f.NewCounter(prometheus.CounterOpts{
			Name: "cairn_ledger_entries_total",
			Help: "Entries that this process wrote: claims settled.",
		}),
		conflicts: f.NewCounter(prometheus.CounterOpts{
			Name: "cairn_ledger_conflicts_total",
			Help: "Claims in the log whose tile had an entry already: not paid.",
		}),
		commits: f.NewHistogram(prometheus.HistogramOpts{
			Name:                        "cairn_ledger_commit_duration_seconds",
			Help:                        "Time of one transaction, from begin to committed.",
			Buckets:                     prometheus.ExponentialBuckets(0.001, 2, 14),
			NativeHistogramBucketFactor: 1.1,
		}),
		failures: f.NewCounter(prometheus.CounterOpts{
			Name: "cairn_ledger_commit_failures_total",
			Help: "Transactions that failed and are tried again.",
		}),
		stale: f.NewCounter(prometheus.CounterOpts{
			Name: "cairn_ledger_stale_total",
			Help: "Transactions given up because a shard's offset had moved: another worker, or a commit whose answer was lost.",
		}),
	}
}
