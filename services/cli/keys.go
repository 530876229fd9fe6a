package cli

import (
	"fmt"
	"os"

	"github.com/lotline/lotline/pkg/apikeys"
)

type keysCmd struct {
	New keysNewCmd `cmd:"" help:"Make a key: its text on stdout, its line for the gateway's file to where --file says."`
}

// Help is printed by kong under the description.
func (*keysCmd) Help() string {
	return `  lotline keys new shop --scope=read,write --file=/etc/lotline/api-keys

The text is shown once and kept nowhere; the file has its hash only. A gateway with --http-keys-file takes the change in
within seconds. To take a key back, delete its line.`
}

type keysNewCmd struct {
	Name  string          `arg:"" help:"Whose key it is: letters, digits, dots, dashes and underscores."`
	Scope []apikeys.Scope `env:"-" required:"" placeholder:"SCOPE" help:"What it allows: read (questions), write (commands), admin (all, and operations)."`
	File  string          `env:"-" placeholder:"PATH" help:"The gateway's file of keys, to add the line to; without it the line goes to stderr."`
}

// Run makes a key.
func (c keysNewCmd) Run(e *env) error {
	text, line, err := apikeys.New(c.Name, c.Scope...)
	if err != nil {
		return exit{exitUsage, fmt.Errorf("make a key: %w", err)}
	}
	if c.File != "" {
		if line, err = fits(c.File, line); err != nil {
			return err
		}
	}
	// Before it is in the file: the text is kept nowhere, and nobody could use a key that nobody was told.
	if _, err := fmt.Fprintln(e.stdout, text); err != nil {
		return fmt.Errorf("no key was made, since its text could not be printed: %w", err)
	}
	if c.File == "" {
		fmt.Fprintf(e.stderr, "Add this line to the gateway's --http-keys-file:\n%s\n", line)
		return nil
	}
	return addKey(c.File, line)
}

// fits returns what is to be added to the file for the line, unless the gateway could not read it then.
func fits(path, line string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return "", fmt.Errorf("read the file of keys: %w", err)
	}
	if len(content) > 0 && content[len(content)-1] != '\n' {
		line = "\n" + line
	}
	if _, err := apikeys.Parse(string(content) + line); err != nil {
		return "", fmt.Errorf("the key was not added to %s: %w", path, err)
	}
	return line, nil
}

func addKey(path, line string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("add the key: %w", err)
	}
	_, err = fmt.Fprintln(f, line)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("add the key to %s: %w", path, err)
	}
	return nil
}
