package capacity

import (
	"errors"
	"fmt"
	"math"

	"github.com/veltrix/cairn"
)

// Prices are what the parts of a fleet cost, in one currency.
type Prices struct {
	Origin     string  `json:"origin"`           // whose prices, of when: printed beside every sum
	Currency   string  `json:"currency"`         //
	CoreHour   float64 `json:"core_hour"`        // a core for an hour
	MemoryHour float64 `json:"memory_gb_hour"`   // a GB of memory for an hour
	Egress     float64 `json:"egress_gb"`        // a GB to the players
	Between    float64 `json:"between_zones_gb"` // a GB between machines of the fleet
	Disk       float64 `json:"disk_gb_month"`    // a GB of disk for a month
	Hours      float64 `json:"hours_month"`      //
}

// DefaultPrices returns an example that shows the orders of magnitude.
func DefaultPrices() Prices {
	return Prices{
		Origin:   "an example: round figures, no provider's quote",
		Currency: "$", CoreHour: 0.04, MemoryHour: 0.005, Egress: 0.05, Between: 0.01, Disk: 0.10, Hours: 730,
	}
}

// Validate returns a [cairn.FieldError] for each price that can't be.
func (p *Prices) Validate() error {
	var errs []error
	for _, f := range []struct {
		field string
		x     float64
	}{
		{"core_hour", p.CoreHour}, {"memory_gb_hour", p.MemoryHour}, {"egress_gb", p.Egress}, {"between_zones_gb", p.Between}, {"disk_gb_month", p.Disk},
	} {
		if math.IsNaN(f.x) || f.x < 0 || f.x > 1e6 {
			errs = append(errs, &cairn.FieldError{Field: f.field, Msg: fmt.Sprintf("is %g; want a price, 0 or more", f.x)})
		}
	}
	if !(p.Hours > 0 && p.Hours <= 744) {
		errs = append(errs, &cairn.FieldError{Field: "hours_month", Msg: fmt.Sprintf("is %g; want above 0, at most 744", p.Hours)})
	}
	if p.Currency == "" {
		errs = append(errs, &cairn.FieldError{Field: "currency", Msg: "is empty; want its sign, such as $"})
	}
	if p.Origin == "" {
		errs = append(errs, &cairn.FieldError{Field: "origin", Msg: "is empty; want whose prices they are, and of when"})
	}
	return errors.Join(errs...)
}
