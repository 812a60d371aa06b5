// Package admin is how a running node is seen and told what to do: one Status
// value with its table and its JSON, and HTTP over a unix socket in the node's
// state directory that carries it and the few commands a node takes. Whoever
// may open the socket (its owner, by mode 0600) may command the node.
package admin
