// Command clock tells the time over HTTP.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
	_ "time/tzdata" // the image holds nothing but this program

	"golang.org/x/sync/errgroup"
)

const grace = 3 * time.Second

func main() {
	log := slog.New(slog.NewJSONHandler(os.Stdout, nil))
	if err := run(log); err != nil {
		log.Error("stopped", "error", err.Error())
		os.Exit(1)
	}
	log.Info("stopped")
}

// run serves until it is asked to stop; requests under way are finished first.
func run(log *slog.Logger) error {
	zone, err := time.LoadLocation(setting("ZONE", "UTC"))
	if err != nil {
		return fmt.Errorf("ZONE: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	server := &http.Server{
		Addr:              ":" + setting("PORT", "8080"),
		Handler:           logged(log, newHandler(zone, time.Now)),
		ReadHeaderTimeout: 5 * time.Second,
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		log.Info("listening", "address", server.Addr, "zone", zone.String())
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		return server.Shutdown(end)
	})
	return group.Wait()
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func logged(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		next.ServeHTTP(w, r)
		log.Info("request", "method", r.Method, "path", r.URL.Path, "seconds", time.Since(started).Seconds())
	})
}
