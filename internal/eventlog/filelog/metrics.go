package filelog

import (
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// metrics are what a store measures of itself.
type metrics struct {
	durable, volatile  prometheus.Observer
	bytes              prometheus.Counter
	fromRing, fromDisk prometheus.Counter
	all                []prometheus.Collector
}

func newMetrics(db *pebble.DB, disk vfs.FS, dir string) *metrics {
	appends := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:                        "cairn_append_duration_seconds",
		Help:                        "Time from the call of an append to its acknowledgement.",
		Buckets:                     []float64{.00001, .00005, .0001, .00025, .0005, .001, .002, .004, .008, .016, .032, .064, .25, 1},
		NativeHistogramBucketFactor: 1.1,
	}, []string{"log"})
	bytes := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "cairn_append_bytes_total",
		Help: "Bytes of bodies that were appended and acknowledged.",
	})
	reads := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cairn_follow_records_total",
		Help: "Records given to followers, by where they were read.",
	}, []string{"source"})
	return &metrics{
		durable: appends.WithLabelValues("durable"), volatile: appends.WithLabelValues("volatile"),
		bytes:    bytes,
		fromRing: reads.WithLabelValues("ring"), fromDisk: reads.WithLabelValues("disk"),
		all: []prometheus.Collector{appends, bytes, reads, &syncs{db: db, desc: prometheus.NewDesc(
			"cairn_log_sync_duration_seconds",
			"Time of the fsyncs of the write-ahead log, each of which may serve many appends.", nil, nil)}, space{db, disk, dir}},
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for _, c := range m.all {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}

func (m *metrics) unregister(r prometheus.Registerer) {
	if r == nil {
		return
	}
	for _, c := range m.all {
		r.Unregister(c)
	}
}

func (m *metrics) appended(volatile bool, bodyBytes int, took time.Duration) {
	o := m.durable
	if volatile {
		o = m.volatile
	}
	o.Observe(took.Seconds())
	m.bytes.Add(float64(bodyBytes))
}

// syncs exports Pebble's own histogram of fsync times under our name.
type syncs struct {
	db   *pebble.DB
	desc *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *syncs) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c *syncs) Collect(ch chan<- prometheus.Metric) {
	var m dto.Metric
	h := c.db.Metrics().LogWriter.FsyncLatency
	if h == nil || h.Write(&m) != nil || m.Histogram == nil {
		return
	}
	// Pebble counts nanoseconds.
	buckets := make(map[float64]uint64, len(m.Histogram.Bucket))
	for _, b := range m.Histogram.Bucket {
		buckets[b.GetUpperBound()/1e9] = b.GetCumulativeCount()
	}
	ch <- prometheus.MustNewConstHistogram(c.desc,
		m.Histogram.GetSampleCount(), m.Histogram.GetSampleSum()/1e9, buckets)
}

var (
	diskBytes = prometheus.NewDesc("cairn_log_disk_bytes", "Bytes that the logs take on disk.", nil, nil)
	diskFree  = prometheus.NewDesc("cairn_log_disk_free_bytes", "Bytes that are left to us on the disk of the logs: with none, the next append ends the process.", nil, nil)
)

// A space exports how much room the logs take, and how much is left.
type space struct {
	db   *pebble.DB
	disk vfs.FS
	dir  string
}

// Describe implements prometheus.Collector.
func (space) Describe(ch chan<- *prometheus.Desc) {
	ch <- diskBytes
	ch <- diskFree
}

// Collect implements prometheus.Collector. A disk that can't say how much is
// left has no such metric.
func (c space) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(diskBytes, prometheus.GaugeValue, float64(c.db.Metrics().DiskSpaceUsage()))
	if u, err := c.disk.GetDiskUsage(c.dir); err == nil {
		ch <- prometheus.MustNewConstMetric(diskFree, prometheus.GaugeValue, float64(u.AvailBytes))
	}
}
