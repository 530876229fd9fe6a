package servers

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// BackUpPostgres has a running Postgres stream a base backup to a tar file, with the WAL that it needs to be consistent:
// what pg_basebackup does, which is not among the binaries.
func BackUpPostgres(ctx context.Context, s *Server, file string) (err error) {
	config, err := pgconn.ParseConfig(s.DSN)
	if err != nil {
		return fmt.Errorf("back up postgres: %w", err)
	}
	config.RuntimeParams["replication"] = "true"
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("back up postgres: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	out, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("back up postgres: %w", err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	conn.Frontend().Send(&pgproto3.Query{String: "BASE_BACKUP (LABEL 'drill', CHECKPOINT 'fast', WAL true)"})
	if err := conn.Frontend().Flush(); err != nil {
		return fmt.Errorf("back up postgres: %w", err)
	}
	var failed error
	for {
		message, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return fmt.Errorf("back up postgres: %w", err)
		}
		switch m := message.(type) {
		case *pgproto3.CopyData:
			if len(m.Data) > 0 && m.Data[0] == 'd' { // the others say what follows and how far it is
				_, err := out.Write(m.Data[1:])
				failed = errors.Join(failed, err)
			}
		case *pgproto3.ErrorResponse:
			failed = errors.Join(failed, pgconn.ErrorResponseToPgError(m))
		case *pgproto3.ReadyForQuery:
			if failed != nil {
				failed = fmt.Errorf("back up postgres: %w", failed)
			}
			return failed
		}
	}
}

// RestorePostgres puts a backup in the place of the data of a Postgres that does not run; Restart then recovers it.
func RestorePostgres(s *Server, file string) error {
	if s.running() {
		return errors.New("restore postgres: it runs")
	}
	if err := errors.Join(os.RemoveAll(s.dataDir), os.Mkdir(s.dataDir, 0o700)); err != nil {
		return fmt.Errorf("restore postgres: %w", err)
	}
	in, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("restore postgres: %w", err)
	}
	defer in.Close()
	archive := tar.NewReader(in)
	for {
		entry, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = unpack(filepath.Join(s.dataDir, filepath.Clean("/"+entry.Name)), entry, archive)
		}
		if err != nil {
			return fmt.Errorf("restore postgres: %w", err)
		}
	}
	return giveAllToOrdinaryUser(s.dataDir)
}

func unpack(path string, entry *tar.Header, from io.Reader) error {
	switch entry.Typeflag {
	case tar.TypeDir:
		return os.MkdirAll(path, 0o700)
	case tar.TypeReg:
		out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, from)
		return errors.Join(err, out.Close())
	}
	return fmt.Errorf("%s is neither file nor directory", entry.Name)
}

func giveAllToOrdinaryUser(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return giveToOrdinaryUser(path)
	})
}
