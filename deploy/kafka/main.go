// Command kafka runs Apache Kafka on this machine for people who try things; see
// README.md beside it. "make kafka" is the usual way to call it.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"github.com/dalvdb/dalvdb/internal/kafka"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// brokersVariable tells a command where the brokers are. The tests that can run on
// real ones look there.
const brokersVariable = "DALVDB_TEST_KAFKA"

// run prints the addresses when all brokers answer, and stops them when ctx ends; or
// it runs a command when they do, and stops them when that has ended.
func run(ctx context.Context, out io.Writer, args []string) (err error) {
	flags := flag.NewFlagSet("kafka", flag.ContinueOnError)
	var o kafka.Options
	flags.IntVar(&o.Brokers, "brokers", 1, "how many: 1 or 3")
	flags.StringVar(&o.Dir, "dir", "", "where all is kept")
	flags.IntVar(&o.Port, "port", 9092, "port of the first broker, those of the others follow; 0: free ones")
	fetch := flags.Bool("fetch", false, "only bring the server to this machine")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *fetch {
		return kafka.Fetch(ctx)
	}
	c, err := kafka.Start(ctx, o)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := c.Close(); err == nil {
			err = closeErr
		}
	}()
	if flags.NArg() > 0 {
		return runWith(ctx, out, strings.Join(c.Addrs(), ","), flags.Args())
	}
	if _, err := fmt.Fprintln(out, strings.Join(c.Addrs(), ",")); err != nil {
		return err
	}
	return c.Wait(ctx)
}

// runWith runs a command that is told where the brokers are.
func runWith(ctx context.Context, out io.Writer, brokers string, command []string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), brokersVariable+"="+brokers)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, out, os.Stderr
	return cmd.Run()
}
