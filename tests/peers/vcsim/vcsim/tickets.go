package main

import (
	"html"
	"net/http"
	"regexp"
	"strings"

	"github.com/vmware/govmomi/vim25/soap"
)

// ticketCookie is what a request to a host has in the place of a session.
const ticketCookie = "vmware_cgi_ticket"

// ticket lets one request pass at a host: this method, this address, once.
type ticket struct{ method, url, session string }

var (
	ticketURL    = regexp.MustCompile(`<(?:\w+:)?url[^>]*>([^<]*)<`)
	ticketMethod = regexp.MustCompile(`<(?:\w+:)?method[^>]*>http([^<]*)<`)
	ticketID     = regexp.MustCompile(`<(?:\w+:)?id>([^<]*)<`)
)

// keepTicket notes a ticket that the vCenter has handed out.
func (w *world) keepTicket(asked, answered []byte, session string) {
	url, method, id := ticketURL.FindSubmatch(asked), ticketMethod.FindSubmatch(asked), ticketID.FindSubmatch(answered)
	if url == nil || id == nil {
		return
	}
	t := ticket{method: http.MethodGet, url: html.UnescapeString(string(url[1])), session: session}
	if method != nil {
		t.method = strings.ToUpper(string(method[1]))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tickets[string(id[1])] = t
}

// byTicket turns a ticket into the session that it was handed out to; what it is not for is refused, and it is used up.
func (w *world) byTicket(r *http.Request, id string) bool {
	w.mu.Lock()
	t, known := w.tickets[id]
	delete(w.tickets, id)
	w.mu.Unlock()
	if !known || t.method != r.Method || t.url != "https://"+r.Host+r.URL.RequestURI() {
		return false
	}
	r.Header.Set("Cookie", (&http.Cookie{Name: soap.SessionCookieName, Value: t.session}).String())
	return true
}
