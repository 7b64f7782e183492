"""What one record may be at most: a record beyond it is set aside, and the next one is read."""

LONGEST_RECORD = 64 << 20  # bytes of a line, a JSON object, a CSV row or a TFRecord
KEPT_OF_LONGER = 1 << 20  # bytes of a longer one that the quarantine keeps: its beginning
MOST_KEYS = 25_000  # of one record; all are columns of the statistics
MOST_NESTED = 100  # objects or lists within one another
LONGEST_DETAIL = 500  # characters that say what is wrong with a record
LARGEST_PAGE = 1 << 30  # bytes that a page of a Parquet file unpacks to
LARGEST_BLOCK = 128 << 20  # bytes of a block of an Avro file, packed and unpacked
LARGEST_LISTS = 1 << 30  # bytes of memory for what its lists hold, or a row of Parquet
