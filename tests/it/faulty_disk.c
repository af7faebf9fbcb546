// A disk that fails: preloaded into a server, it fails calls on files of the database
// while the file $FAULT says so.
//   full   what is written to the log finds no space
//   sync   a sync fails, and from then on all that is written
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is_dead;

static int is_wal(int fd) {
  char link[64], path[4096] = {0};
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  return readlink(link, path, sizeof path - 1) > 0 && strstr(path, "doorbell.db-wal");
}

static int fault_is(const char *wanted) {
  char text[16] = {0};
  const char *file = getenv("FAULT");
  int fd = file ? open(file, O_RDONLY | O_CLOEXEC) : -1;
  if (fd < 0) return 0;
  ssize_t length = read(fd, text, sizeof text - 1);
  close(fd);
  return length > 0 && strncmp(text, wanted, strlen(wanted)) == 0;
}

static ssize_t write_to(int fd, const void *bytes, size_t length, off_t at) {
  static ssize_t (*real)(int, const void *, size_t, off_t);
  if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
  if (is_wal(fd)) {
    if (fault_is("full")) return errno = ENOSPC, -1;
    if (is_dead && fault_is("sync")) return errno = EIO, -1;
  }
  return real(fd, bytes, length, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) { return write_to(fd, bytes, length, at); }
ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t at) { return write_to(fd, bytes, length, at); }

static int sync_of(int fd, const char *name) {
  int (*real)(int) = dlsym(RTLD_NEXT, name);
  if (is_wal(fd) && fault_is("sync")) return is_dead = 1, errno = EIO, -1;
  return real(fd);
}

int fsync(int fd) { return sync_of(fd, "fsync"); }
int fdatasync(int fd) { return sync_of(fd, "fdatasync"); }
