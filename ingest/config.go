package ingest

import (
	"errors"
	"fmt"
	"time"
)

// Config says how an Ingester works. The zero Config is good.
type Config struct {
	// WriteTimeout bounds how long a caller waits for the decision once its
	// record has been handed to the log; then the outcome is unknown.
	// 0: WriteTimeoutDefault.
	WriteTimeout time.Duration

	// FoldRate is how many records a second one partition is expected to fold
	// as long as its pace is not known. It says how long a partition needs to work
	// off what waits. 0: FoldRateDefault.
	FoldRate int64

	// LagMax is how many records of a partition may be appended and not yet
	// folded while more are admitted. 0: what is folded, at FoldRate, in a fifth
	// of WriteTimeout. Fewer are admitted where they would take longer than that
	// fifth at the pace of late, so that who is admitted last still gets an answer.
	LagMax int64

	// Now is the clock that stamps events. nil: time.Now.
	Now func() time.Time
}

// The defaults of a Config.
const (
	WriteTimeoutDefault = 10 * time.Second
	FoldRateDefault     = 10_000
)

// Validate reports every field that cannot be met.
func (c Config) Validate() error {
	var faults []error
	if c.WriteTimeout < 0 {
		faults = append(faults, fmt.Errorf("write timeout %v: negative", c.WriteTimeout))
	}
	if c.FoldRate < 0 {
		faults = append(faults, fmt.Errorf("fold rate %d: negative", c.FoldRate))
	}
	if c.LagMax < 0 {
		faults = append(faults, fmt.Errorf("lag max %d: negative", c.LagMax))
	}
	return errors.Join(faults...)
}

// withDefaults returns the valid c with each zero field replaced.
func (c Config) withDefaults() Config {
	if c.WriteTimeout == 0 {
		c.WriteTimeout = WriteTimeoutDefault
	}
	if c.FoldRate == 0 {
		c.FoldRate = FoldRateDefault
	}
	if c.LagMax == 0 {
		c.LagMax = max(1, int64(c.WriteTimeout.Seconds()*float64(c.FoldRate)/5))
	}
	if c.Now == nil {
		c.Now = time.Now //nolint:forbidigo // where the clock comes in when nobody gives one
	}
	return c
}
