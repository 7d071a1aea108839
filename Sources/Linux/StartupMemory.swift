import CLinux
import Glibc

/// What only the start of a process needs.
public enum StartupMemory {
  /// Lets go of the pages of the program and its libraries that nothing has written to, and gives free heap back.
  ///
  /// The start touches nearly all of a program once: relocations, types, the parsers of its configuration. Most of that is
  /// never needed again, yet counts as resident for ever. What is needed comes back by itself, from the page cache, without
  /// reading a file. From any thread; for once, when the start is over.
  public static func release() {
    ambient_release_unchanged_pages()
    malloc_trim(0)
  }
}
