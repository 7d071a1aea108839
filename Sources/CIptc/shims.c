#include "CIptc.h"
