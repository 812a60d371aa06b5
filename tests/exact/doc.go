// Package exact compares a mount with the file system below it. A case makes
// system calls and writes down what each returns and what can be seen
// afterwards. It runs in processes of its own, once in a plain directory and
// once on a mount, and both have to write the same: the plain directory is what
// says how it has to be. The package has no code but its tests.
package exact
