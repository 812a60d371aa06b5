// Package wire is the protocol between nodes: frames, the encoding of ops,
// hello, multiplexed sessions and their encryption.
//
// # Lanes
//
// A node listens on one port. A connection says by TLS ALPN which lane it is
// of, or, without TLS, by a first line that is the lane's name. Nothing small
// ever queues behind something big, because they are different connections:
//
//	standbyfs-ops/1    a yamux session with two streams, opened by the primary
//	                   right after connecting. Each begins with one byte:
//	                   'L' log      op frames and commit positions to the
//	                                mirror, acks and reports back
//	                   'C' control  hello, heartbeats, joins, goodbye
//	standbyfs-bulk/1   a yamux session, one stream a job: calls between nodes
//	standbyfs-raft/1   reserved for the cluster's decisions
//
// The acceptor answers with a line, "ok" or "no " and the reason, and only then
// yamux begins. The answer comes when it has looked at the certificate, so that
// who dials hears of a wrong one, and of a lane that is not served.
//
// # Frames
//
// Everything on a stream is a frame: a header of 48 bytes and a payload.
// Numbers are little endian. A receiver verifies both checksums before it
// looks at anything else.
//
//	 0  u32  length of the payload, at most MaxPayload
//	 4  u8   kind: 1..127 an op.Kind, 128.. see Kind
//	 5  u8   flags: op.Flags of an op frame, otherwise zero
//	 6  u16  zero
//	 8  u64  number of the epoch
//	16  u64  LSN of an op frame, otherwise zero
//	24  u64  bytes of all op frames of this line, this one included: the
//	         difference of two offsets is how many bytes lie between them
//	32  u64  zero
//	40  u32  crc32c of the payload
//	44  u32  crc32c of the 44 bytes above
//
// # Ops
//
// The payload of an op frame begins with a u32 that has a bit for each field
// of op.Op that is not zero, and then has those fields in the order of the
// bits. Integers are varints (zig-zag where they can be negative), strings and
// byte strings have their length before them, lists their count. Attributes
// begin with a byte that has a bit for each of them, in the order mode, owner,
// device, size, atime, mtime, inode flags. See encode.go.
//
// # Hello and repair
//
// On the control stream the primary says Hello, the mirror Answer, the primary
// Begin, the mirror Begun. Unless the mirror resumes, and if it knows the primary
// (Answer.Knows), it then sends its half of what has to be compared, in one or
// more Regions. What follows of the repair are ops on the log stream: Put,
// PutLink and PutNames make the mirror's object so; Check has digests of a file's
// regions and Survey one of each small child of a directory, which the mirror
// compares when it applies them, and reports what differs before the ack that
// covers them. A Put with the flag Partial is of an object of which only a part
// is looked at: where the mirror had to make it anew it reports that, and gets
// all of it. A Hint is a rename that the mirror may have missed: it makes it where
// nothing speaks against it, and says nothing. It is part of protocol 5.
//
// A verify sends the same ops with the flag Compare to mirrors that are level. They
// change nothing, read files past what they have in memory, and report what differs:
// of a Survey the names, of all else each difference in words.
//
// A View (view.go) is a call: a primary that compares replicas, or mends its own,
// asks what a node has at a path. Ops in it are frames with position zero.
//
// Messages of the control stream, reports and calls are JSON: they are rare,
// and explain themselves in a capture.
package wire
