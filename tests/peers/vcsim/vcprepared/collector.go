package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

const envelope = `<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenc="http://schemas.xmlsoap.org/soap/encoding/" xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>`

// filter is one filter over the whole inventory.
type filter struct {
	id     string
	spec   *spec
	others []mo.Reference
	sent   int // objects of the full set that were sent
	seen   int // position in the log of changes
	begun  bool
}

type collector struct {
	filters []*filter
	version int64
	cancel  chan struct{}
}

type service struct {
	store      *store
	next       http.Handler
	mu         sync.Mutex
	collectors map[string]*collector
	pages      map[string]*page
	ids        int64
	calls      map[string]int64
	delivered  int // position in the log that the last answer reached
}

// page is what is left of a RetrievePropertiesEx.
type page struct {
	filter *filter
	most   int
}

type answer struct {
	bytes.Buffer
	status int
}

// ServeHTTP answers the property collector's methods over the whole inventory and leaves the rest to the simulator.
func (s *service) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != "/sdk" {
		s.next.ServeHTTP(rw, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	m, err := simulator.UnmarshalBody(types.TypeFunc(), body)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.calls[m.Name]++
	s.mu.Unlock()
	if out := s.answer(r, m); out != nil {
		rw.Header().Set("Content-Type", "text/xml; charset=utf-8")
		rw.Header().Set("Content-Length", strconv.Itoa(out.Len()))
		if out.status != 0 {
			rw.WriteHeader(out.status)
		}
		_, _ = rw.Write(out.Bytes())
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	s.next.ServeHTTP(rw, r)
}

func whole(set []types.PropertyFilterSpec) bool {
	if len(set) != 1 || len(set[0].ObjectSet) != 1 {
		return false
	}
	o := set[0].ObjectSet[0]
	return len(o.SelectSet) > 0 && (o.Obj.Type == "Folder" || o.Obj.Type == "ContainerView")
}

func (s *service) key(r *http.Request, ref types.ManagedObjectReference) string {
	c, err := r.Cookie("vmware_soap_session")
	if err != nil {
		return ""
	}
	return c.Value + "/" + ref.Value
}

func (s *service) answer(r *http.Request, m *simulator.Method) *answer {
	key := s.key(r, m.This)
	if key == "" {
		return nil
	}
	switch req := m.Body.(type) {
	case *types.CreateFilter:
		if !whole([]types.PropertyFilterSpec{req.Spec}) {
			return nil
		}
		f := s.filter(req.Spec.PropSet)
		s.mu.Lock()
		defer s.mu.Unlock()
		c := s.collectors[key]
		if c == nil {
			c = &collector{cancel: make(chan struct{})}
			s.collectors[key] = c
		}
		c.filters = append(c.filters, f)
		return wrapAnswer("CreateFilter", fmt.Sprintf(`<returnval type="PropertyFilter">%s</returnval>`, f.id))
	case *types.WaitForUpdatesEx:
		s.mu.Lock()
		c := s.collectors[key]
		s.mu.Unlock()
		if c == nil {
			return nil
		}
		return s.wait(r, c, req)
	case *types.CancelWaitForUpdates:
		s.mu.Lock()
		if c := s.collectors[key]; c != nil {
			close(c.cancel)
			c.cancel = make(chan struct{})
		}
		s.mu.Unlock()
		return nil
	case *types.DestroyPropertyCollector:
		s.mu.Lock()
		delete(s.collectors, key)
		s.mu.Unlock()
		return nil
	case *types.DestroyPropertyFilter:
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, c := range s.collectors {
			for i, f := range c.filters {
				if f.id == m.This.Value {
					c.filters = append(c.filters[:i:i], c.filters[i+1:]...)
					return wrapAnswer("DestroyPropertyFilter", "")
				}
			}
		}
		return nil
	case *types.RetrievePropertiesEx:
		if !whole(req.SpecSet) {
			return nil
		}
		return s.retrieve("RetrievePropertiesEx", &page{s.filter(req.SpecSet[0].PropSet), int(req.Options.MaxObjects)})
	case *types.RetrieveProperties:
		if !whole(req.SpecSet) {
			return nil
		}
		return s.retrieve("RetrieveProperties", &page{s.filter(req.SpecSet[0].PropSet), 0})
	case *types.ContinueRetrievePropertiesEx:
		s.mu.Lock()
		p := s.pages[req.Token]
		delete(s.pages, req.Token)
		s.mu.Unlock()
		if p == nil {
			return nil
		}
		return s.retrieve("ContinueRetrievePropertiesEx", p)
	}
	return nil
}

func (s *service) filter(set []types.PropertySpec) *filter {
	sp := newSpec(set)
	sp.prepare(s.store.shapes)
	s.mu.Lock()
	s.ids++
	f := &filter{id: fmt.Sprintf("session[prepared]filter-%d", s.ids), spec: sp}
	s.mu.Unlock()
	f.others, _ = s.store.objects(sp)
	return f
}

func wrapAnswer(method, inner string) *answer {
	a := &answer{}
	a.begin(method)
	a.WriteString(inner)
	a.end(method)
	return a
}

func (a *answer) begin(method string) {
	a.WriteString(envelope + "<" + method + `Response xmlns="urn:vim25">`)
}

func (a *answer) end(method string) {
	a.WriteString("</" + method + "Response></soapenv:Body></soapenv:Envelope>")
}

// some writes up to `most` objects of the full set that were not sent yet; true when there are more.
func (s *service) some(b *bytes.Buffer, f *filter, most int, open, close string, how style) bool {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	machines := 0
	if f.spec.vm != nil {
		machines = len(s.store.machines)
	}
	total := len(f.others) + machines
	if most <= 0 {
		most = total
	}
	for ; most > 0 && f.sent < total; most-- {
		if f.sent < len(f.others) {
			o := f.others[f.sent]
			ref := o.Reference()
			fmt.Fprintf(b, open, ref.Type, ref.Value)
			s.store.writeOther(b, f.spec, o, how)
		} else {
			m := s.store.machines[f.sent-len(f.others)]
			fmt.Fprintf(b, open, "VirtualMachine", m.ref)
			s.store.writeMachine(b, f.spec, m, how)
		}
		b.WriteString(close)
		f.sent++
	}
	return f.sent < total
}

func (s *service) retrieve(method string, p *page) *answer {
	a := &answer{}
	a.begin(method)
	if method == "RetrieveProperties" {
		s.some(&a.Buffer, p.filter, 0, `<returnval><obj type="%s">%s</obj>`, "</returnval>", asContent)
		a.end(method)
		return a
	}
	a.WriteString("<returnval>")
	var objects bytes.Buffer
	if s.some(&objects, p.filter, p.most, `<objects><obj type="%s">%s</obj>`, "</objects>", asContent) {
		s.mu.Lock()
		s.ids++
		token := fmt.Sprintf("%d", s.ids)
		s.pages[token] = p
		s.mu.Unlock()
		a.WriteString("<token>" + token + "</token>")
	}
	a.Write(objects.Bytes())
	a.WriteString("</returnval>")
	a.end(method)
	return a
}

// wait answers WaitForUpdatesEx: first the full set in pages, then what changed since.
func (s *service) wait(r *http.Request, c *collector, req *types.WaitForUpdatesEx) *answer {
	most := 100 // vCenter's default
	limit := 15 * time.Minute
	if req.Options != nil {
		if req.Options.MaxObjectUpdates > 0 {
			most = int(req.Options.MaxObjectUpdates)
		}
		if req.Options.MaxWaitSeconds != nil {
			limit = time.Duration(*req.Options.MaxWaitSeconds) * time.Second
		}
	}
	if req.Version == "" {
		for _, f := range c.filters {
			f.sent, f.begun = 0, false
		}
	}
	s.mu.Lock()
	cancel := c.cancel
	s.mu.Unlock()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for {
		var sets bytes.Buffer
		truncated := false
		s.store.mu.Lock()
		wake := s.store.wake
		s.store.mu.Unlock()
		for _, f := range c.filters {
			var objects bytes.Buffer
			if !f.begun {
				if f.sent == 0 { // changes from now on come after the full set, again where a page had them already
					s.store.mu.Lock()
					f.seen = len(s.store.log)
					s.store.mu.Unlock()
				}
				if s.some(&objects, f, most, `<objectSet><kind>enter</kind><obj type="%s">%s</obj>`, "</objectSet>", asChange) {
					truncated = true
				} else {
					f.begun = true
				}
			} else {
				truncated = s.changes(&objects, f, most) || truncated
			}
			if objects.Len() > 0 {
				fmt.Fprintf(&sets, `<filterSet><filter type="PropertyFilter">%s</filter>`, f.id)
				sets.Write(objects.Bytes())
				sets.WriteString("</filterSet>")
			}
			if truncated {
				break
			}
		}
		if sets.Len() > 0 {
			c.version++
			a := &answer{}
			a.begin("WaitForUpdatesEx")
			fmt.Fprintf(a, "<returnval><version>%d</version>", c.version)
			a.Write(sets.Bytes())
			if truncated {
				a.WriteString("<truncated>true</truncated>")
			}
			a.WriteString("</returnval>")
			a.end("WaitForUpdatesEx")
			return a
		}
		select {
		case <-wake:
		case <-deadline.C:
			return wrapAnswer("WaitForUpdatesEx", "")
		case <-r.Context().Done():
			return wrapAnswer("WaitForUpdatesEx", "")
		case <-cancel:
			a := wrapAnswer("", "")
			a.Reset()
			a.status = http.StatusInternalServerError
			a.WriteString(envelope + `<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>The request was canceled.</faultstring><detail>` +
				`<RequestCanceledFault xmlns="urn:vim25" xsi:type="RequestCanceled"/></detail></soapenv:Fault></soapenv:Body></soapenv:Envelope>`)
			return a
		}
	}
}

// changes writes what the log has of up to `most` objects, the last value of each path; true when there is more.
func (s *service) changes(b *bytes.Buffer, f *filter, most int) bool {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	order := []int{}
	by := map[int]map[string][]byte{}
	for ; f.seen < len(s.store.log); f.seen++ {
		c := s.store.log[f.seen]
		if !f.spec.wants(c.path) {
			continue
		}
		if by[c.vm] == nil {
			if len(order) == most {
				break
			}
			order = append(order, c.vm)
			by[c.vm] = map[string][]byte{}
		}
		by[c.vm][c.path] = c.val
	}
	for _, n := range order {
		fmt.Fprintf(b, `<objectSet><kind>modify</kind><obj type="VirtualMachine">%s</obj>`, s.store.machines[n].ref)
		for path, val := range by[n] {
			asChange.write(b, []byte(path), val)
		}
		b.WriteString("</objectSet>")
	}
	s.delivered = f.seen
	return f.seen < len(s.store.log)
}
