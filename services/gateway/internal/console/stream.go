package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

const (
	// writeTimeout is how long a viewer may take to take what is sent to it.
	writeTimeout = 10 * time.Second
	// streamAgeMax is how long a stream goes on before the page has to ask again, and show its key again.
	streamAgeMax = 5 * time.Minute
	// heartbeat keeps proxies from ending a stream in which nothing happens.
	heartbeat = 10 * time.Second
)

// stream writes server-sent events. Its deadlines are those of each write: the server's own are for requests that end.
type stream struct {
	w          http.ResponseWriter
	controller *http.ResponseController
}

// open begins a stream. A failure of what sets deadlines is that of the connection, which the first write shows.
func open(w http.ResponseWriter) *stream {
	s := &stream{w, http.NewResponseController(w)}
	_ = s.controller.SetReadDeadline(time.Time{})
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would keep events until its buffer is full
	w.WriteHeader(http.StatusOK)
	return s
}

// send writes an event, with an id unless that is 0; a nil body is a heartbeat.
func (s *stream) send(id int64, body any) error {
	text := []byte(":\n\n")
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		text = fmt.Appendf(nil, "data: %s\n\n", data)
		if id != 0 {
			text = append(fmt.Appendf(nil, "id: %d\n", id), text...)
		}
	}
	if err := s.controller.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := s.w.Write(text); err != nil {
		return err
	}
	return s.controller.Flush()
}

// live answers GET /console/live: a stream of samples, from the ten minutes that are kept on; of these those after the
// id in Last-Event-ID. It ends when the viewer is too slow or leaves.
func (c *Console) live(w http.ResponseWriter, r *http.Request) {
	after, _ := strconv.ParseInt(r.Header.Get("Last-Event-ID"), 10, 64) // without one, or with another's: all that is kept
	kept, samples, leave, err := c.hub.join(after)
	if err != nil {
		answering(func(*http.Request) (any, error) {
			return nil, fault{http.StatusServiceUnavailable, fmt.Sprintf("%d consoles are open, and no more are served here", viewersMax)}
		}).ServeHTTP(w, r)
		return
	}
	defer leave()
	s := open(w)
	if s.send(0, map[string]any{"read_model": c.ReadModel, "topics": c.names()}) != nil {
		return
	}
	for _, sample := range kept {
		if s.send(sample.ID, sample) != nil {
			return
		}
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	end := time.NewTimer(streamAgeMax)
	defer end.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-end.C: // the page comes again, with a key that is still good
			return
		case sample, ok := <-samples:
			if !ok || s.send(sample.ID, sample) != nil {
				return
			}
		case <-beat.C:
			if s.send(0, nil) != nil {
				return
			}
		}
	}
}

// names are what the page calls the parts of the pipeline.
func (c *Console) names() map[string]string {
	return map[string]string{
		"commands": c.Topics.Commands.Name, "events": c.Topics.Events.Name, "dead_letters": c.Topics.DeadLetters.Name,
		"allocators": c.Topics.AllocatorGroup, "projectors": c.ProjectorGroup,
	}
}
