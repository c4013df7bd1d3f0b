package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	dalvdbv1 "github.com/dalvdb/dalvdb/connectapi/gen/dalvdb/v1"
	"github.com/dalvdb/dalvdb/connectapi/wire"
	"github.com/dalvdb/dalvdb/events"
)

func newDomains(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "domains",
		Short: "Show who may write and see which keys",
		Long: `Show the rules that say who may write and see which keys: user (devices and
backends write), system (backends write, devices read), private (backends only).
The first pattern that matches a key wins; a key that none matches is user.
In a pattern "*" stands for one segment, "**" at the end for the rest.

It fails as long as not all partitions have the same rules: repeat "domains set"
if that has failed.`,
		Example: `  dalvdb domains
  dalvdb domains set 'system/**=system' 'private/**=private'`,
		Args: wantArgs(0),
	}
	flags := a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := flags.open()
		if err != nil {
			return err
		}
		d, err := ask(cmd.Context(), flags, client.Domains)
		if err != nil {
			return err
		}
		return a.printDomains(d)
	}
	cmd.SuggestionsMinimumDistance = 2
	cmd.AddCommand(newDomainsSet(a))
	return cmd
}

func newDomainsSet(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set PATTERN=DOMAIN...",
		Short: "Replace the rules",
		Long: `Replace the rules, all of them, in this order; the command ends when they are in
force in all partitions. Devices then take a snapshot, so that what became
private leaves them. If it fails, the rules may be in force in some partitions:
repeat it.`,
		Example: `  dalvdb domains set 'system/**=system' 'private/**=private' '*/secret=private'
  dalvdb domains set --none`,
		Args: wantArgs(0, "PATTERN=DOMAIN", "..."),
	}
	flags := a.clientFlags(cmd)
	none := cmd.Flags().Bool("none", false, "no rules: all keys are user keys")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		d, err := parseDomains(args)
		if err != nil {
			return err
		}
		if *none != (len(d) == 0) {
			return usageError("want rules PATTERN=DOMAIN, or --none")
		}
		client, err := flags.open()
		if err != nil {
			return err
		}
		_, err = ask(cmd.Context(), flags, func(ctx context.Context) (struct{}, error) {
			return struct{}{}, client.SetDomains(ctx, d)
		})
		if err != nil {
			return err
		}
		return a.printDomains(d)
	}
	return cmd
}

func parseDomains(args []string) (events.Domains, error) {
	var d events.Domains
	for _, s := range args {
		at := strings.LastIndexByte(s, '=')
		if at < 0 {
			return nil, usageError("%q: want PATTERN=DOMAIN", s)
		}
		domain, err := events.ParseDomain(s[at+1:])
		if err != nil {
			return nil, usageError("%q: %w", s, err)
		}
		d = append(d, events.DomainRule{Pattern: s[:at], Domain: domain})
	}
	if err := d.Validate(); err != nil {
		return nil, usageError("%w", err)
	}
	return d, nil
}

func (a *app) printDomains(d events.Domains) error {
	if a.output == "json" {
		return a.printJSON(&dalvdbv1.GetDomainsResponse{Patterns: wire.EncodeDomains(d)})
	}
	t := a.newTable("PATTERN", "DOMAIN")
	for _, r := range d {
		if err := t.row(oneLine(events.Text(r.Pattern)), r.Domain.String()); err != nil {
			return err
		}
	}
	return t.close()
}
