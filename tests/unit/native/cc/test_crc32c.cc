#include "arena/crc32c.h"
#include "support.h"

namespace coe::test {

TEST(Crc32c, KnownValue) {
  const std::string text = "123456789";
  EXPECT_EQ(crc32c(reinterpret_cast<const uint8_t*>(text.data()), text.size()), 0xe3069283U);
}

TEST(Crc32c, FastEqualsPortableAtAllSizesAndSeams) {
  TemporaryFile file(30000);
  const uint8_t* data = file.bytes().data();
  for (const size_t size : {0, 1, 7, 8, 63, 6143, 6144, 6145, 12288, 29999})
    EXPECT_EQ(crc32c(data + 1, size), crc32c_portable(data + 1, size)) << size;
}

TEST(Crc32c, ContinuesFromAPrefix) {
  TemporaryFile file(20000);
  const uint8_t* data = file.bytes().data();
  EXPECT_EQ(crc32c(data + 7000, 13000, crc32c(data, 7000)), crc32c(data, 20000));
}

}  // namespace coe::test
