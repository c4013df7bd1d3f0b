package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const envPrefix = "DALVDB_"

// configure gives every flag that does not stand on the command line its value
// from the environment or else from the configuration file. Each goes through
// the flag's own parser, so that all three accept the same and complain alike.
func (a *app) configure(cmd *cobra.Command) error {
	a.explicit = map[string]bool{}
	cmd.Flags().Visit(func(f *pflag.Flag) { a.explicit[f.Name] = true })

	a.config, _ = cmd.Flags().GetString("config")
	if a.config == "" {
		a.config = os.Getenv(envName("config"))
	}
	k, err := loadConfig(cmd.Root(), a.config)
	if err != nil {
		return err
	}
	var failed error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if failed != nil || f.Changed || !configurable(f.Name) || !k.Exists(f.Name) {
			return
		}
		if err := setFlag(cmd.Flags(), f, k.Get(f.Name)); err != nil {
			failed = usageError("%s: %w", sourceOf(f.Name, a.config), valueError(err))
		}
	})
	if failed != nil {
		return failed
	}
	return a.checkFlags(cmd)
}

// loadConfig reads the file and lays the environment over it. The delimiter is
// one that no flag contains: keys do not nest.
func loadConfig(root *cobra.Command, path string) (*koanf.Koanf, error) {
	const delim = "."
	k := koanf.New(delim)
	if path != "" {
		if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
			if strings.Contains(err.Error(), "cannot unmarshal") { // what YAML calls our types is of no use to others
				err = errors.New("want flags with their values, each as in \"url: http://127.0.0.1:7470\"")
			}
			return nil, usageError("configuration %s: %w", path, plain(err))
		}
		known := flagNames(root)
		for _, name := range k.Keys() {
			if !known[name] {
				return nil, usageError("configuration %s: no verb has a flag %q", path, name)
			}
		}
	}
	err := k.Load(env.Provider(delim, env.Opt{
		Prefix: envPrefix,
		TransformFunc: func(name, value string) (string, any) {
			if value == "" {
				return "", nil // as if it were not there
			}
			name = strings.TrimPrefix(name, envPrefix)
			return strings.ReplaceAll(strings.ToLower(name), "_", "-"), value
		},
	}), nil)
	if err != nil {
		return nil, usageError("environment: %w", err)
	}
	return k, nil
}

// configurable leaves out the flags that are about this command line only.
func configurable(flag string) bool { return flag != "config" && flag != "help" }

// flagNames returns the flags of all verbs.
func flagNames(cmd *cobra.Command) map[string]bool {
	names := map[string]bool{}
	note := func(f *pflag.Flag) {
		if configurable(f.Name) {
			names[f.Name] = true
		}
	}
	cmd.LocalFlags().VisitAll(note)
	for _, sub := range cmd.Commands() {
		for name := range flagNames(sub) {
			names[name] = true
		}
	}
	return names
}

// setFlag gives a flag a value of the file (a scalar or a list) or of the
// environment (a string, in which commas separate the elements of a list).
func setFlag(flags *pflag.FlagSet, f *pflag.Flag, value any) error {
	list, isList := f.Value.(pflag.SliceValue)
	if !isList {
		switch value.(type) {
		case []any, map[string]any, nil:
			return fmt.Errorf("%s: want one value", f.Name)
		}
		return flags.Set(f.Name, fmt.Sprint(value))
	}
	var elements []string
	switch v := value.(type) {
	case []any:
		for _, e := range v {
			elements = append(elements, fmt.Sprint(e))
		}
	case nil:
	default:
		elements = slices.DeleteFunc(strings.Split(fmt.Sprint(v), ","), func(s string) bool { return s == "" })
	}
	f.Changed = true
	return list.Replace(elements)
}

// sourceOf says where the value of a flag came from, for complaints.
func sourceOf(flag, path string) string {
	if os.Getenv(envName(flag)) != "" {
		return "environment " + envName(flag)
	}
	return "configuration " + path
}

func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}
