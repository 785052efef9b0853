# The program that README shows is the one that example/readme.cpp compiles and runs.

get_filename_component(top ${CMAKE_CURRENT_LIST_DIR}/.. ABSOLUTE)
file(READ ${top}/README.md readme)
file(READ ${top}/example/readme.cpp program)

string(REGEX MATCH "// tag::readme\\[\\]\n(.*)// end::readme\\[\\]" _ "${program}")
string(STRIP "${CMAKE_MATCH_1}" shown)
string(FIND "${readme}" "```cpp\n${shown}\n```" found)
if(shown STREQUAL "" OR found EQUAL -1)
  message(FATAL_ERROR "README.md does not show the region `readme` of example/readme.cpp")
endif()
