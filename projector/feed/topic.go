package feed

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// messageBytesMin is what the topic should take as one record: an effect at its
// limit, in JSON.
const messageBytesMin = 8 << 20

// awaitTopic waits until the topic can be written to, and says once what it waits
// for. It reports whether that came before ctx was done.
func (f *Feed) awaitTopic(ctx context.Context) bool {
	said := ""
	for tries := 0; ; tries++ {
		err := f.checkTopic(ctx)
		if ctx.Err() != nil {
			return false
		}
		if err == nil {
			break
		}
		f.failures.Add(1)
		for _, l := range f.lanes {
			l.fails(err)
		}
		if why := err.Error(); why != said {
			f.logger.Error("changes are not fed until this is mended", "topic", f.topic, "err", err)
			said = why
		}
		f.pause(ctx, tries)
	}
	if said != "" {
		f.logger.Info("changes are fed", "topic", f.topic)
	}
	return true
}

// checkTopic returns what keeps the topic from being written to, and lets the client
// learn of it.
func (f *Feed) checkTopic(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkMax)
	defer cancel()
	topics, err := f.admin.ListTopics(ctx, f.topic)
	if err != nil {
		return err
	}
	topic, there := topics[f.topic]
	switch got := len(topic.Partitions); {
	case !there || topic.Err == kerr.UnknownTopicOrPartition: //nolint:errorlint // as the client says it
		return fmt.Errorf("there is no topic %s: dalvdb kafka init makes it", f.topic)
	case topic.Err != nil:
		return topic.Err
	case got != len(f.lanes):
		return fmt.Errorf("topic %s has %d partitions, and the log has %d: make it anew with as many", f.topic, got, len(f.lanes))
	}
	// The client learns of a topic by a record for it, and of that one alone it would not
	// know until then that there is no more to gather. One for no partition is written
	// nowhere.
	_ = f.client.ProduceSync(ctx, &kgo.Record{Topic: f.topic, Partition: -1})
	return ctx.Err()
}

const checkMax = 30 * time.Second

// watchSettings warns of settings under which changes may get lost or stuck, now and
// when they come to be so, until ctx is done.
func (f *Feed) watchSettings(ctx context.Context) {
	again := time.NewTicker(f.cfg.CheckEvery)
	defer again.Stop()
	told, unknown := map[fault]bool{}, false
	for {
		faults, err := f.checkSettings(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			told = f.tellFaults(told, faults)
		case !unknown:
			f.logger.Warn("the settings of the topic of the changes cannot be checked", "topic", f.topic, "err", err)
		}
		unknown = err != nil
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

// tellFaults tells the faults that have not been told, and the end of all. It returns
// those that have.
func (f *Feed) tellFaults(told map[fault]bool, faults []fault) map[fault]bool {
	found := map[fault]bool{}
	for _, fault := range faults {
		if found[fault] = true; !told[fault] {
			f.logger.Warn("the topic of the changes is not set as it should be",
				"topic", f.topic, "setting", fault.setting, "is", fault.is, "want", fault.want, "because", fault.because)
		}
	}
	if len(told) > 0 && len(found) == 0 {
		f.logger.Info("the topic of the changes is set as it should be again", "topic", f.topic)
	}
	return found
}

// fault is a setting of the topic that is not as it should be.
type fault struct{ setting, is, want, because string }

// checkSettings returns the faults that the topic has now.
func (f *Feed) checkSettings(ctx context.Context) (faults []fault, err error) {
	ctx, cancel := context.WithTimeout(ctx, checkMax)
	defer cancel()
	configs, err := f.admin.DescribeTopicConfigs(ctx, f.topic)
	var config kadm.ResourceConfig
	if err == nil {
		config, err = configs.On(f.topic, nil)
	}
	if err == nil {
		err = config.Err
	}
	if err != nil {
		return nil, err
	}
	for _, c := range config.Configs {
		value := c.MaybeValue()
		switch c.Key {
		case "cleanup.policy":
			if value != "delete" {
				faults = append(faults, fault{c.Key, value, "delete", "changes get lost to consumers that are behind"})
			}
		case "max.message.bytes":
			if n, err := strconv.ParseInt(value, 10, 64); err != nil || n < messageBytesMin {
				faults = append(faults, fault{c.Key, value, strconv.Itoa(messageBytesMin), "a large change is not taken, and holds up all behind it"})
			}
		}
	}
	return faults, nil
}
